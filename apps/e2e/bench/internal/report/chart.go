package report

import (
	"io"

	chart "github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"
)

// line is one line of a plot.
type line struct {
	who, name string
	x, y      []float64
	dash      bool
}

// colours gives each contender the same colour in every plot.
var colours = map[string]string{
	ours: "1f6feb", river: "d1242f", raw: "8c959f", "Graphile Worker": "1a7f37", "pg-boss": "9a6700", "gue": "8250df",
}

// colour returns the colour of a contender, or black where it has none.
func colour(who string) drawing.Color {
	if hex, ok := colours[who]; ok {
		return drawing.ColorFromHex(hex)
	}
	return drawing.ColorBlack
}

// plot is one picture with one axis in each direction.
type plot struct {
	title, x, y string
	logarithmic bool // the values of the lines are logarithms
	lines       []line
	xTicks      []chart.Tick // nil = chosen by the library
	yTicks      []chart.Tick // ticks of a logarithmic axis with both ends, at the logarithms
}

// svg writes the plot as SVG.
func (p plot) svg(w io.Writer) error {
	c := chart.Chart{
		// The title holds the name of the y axis: after an axis with a name the library draws all later text rotated.
		Title: p.title + " (" + p.y + ")", TitleStyle: chart.Style{FontSize: 12}, Width: 960, Height: 420,
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 160, Right: 20, Bottom: 20}},
		XAxis:      chart.XAxis{Name: p.x, ValueFormatter: format, Ticks: p.xTicks},
		YAxis:      chart.YAxis{ValueFormatter: format, Ticks: p.yTicks},
		// The second axis has no values; the library would draw it with arbitrary ones.
		YAxisSecondary: chart.YAxis{Style: chart.Hidden()},
	}

	most := 0.0
	for _, l := range p.lines {
		style := chart.Style{StrokeWidth: 2, StrokeColor: colour(l.who)}
		if l.dash {
			style.StrokeDashArray = []float64{6, 4}
		}
		c.Series = append(c.Series, chart.ContinuousSeries{Name: l.name, XValues: l.x, YValues: l.y, Style: style})
		for _, y := range l.y {
			most = max(most, y)
		}
	}

	low, high := 0.0, most*1.05
	if p.logarithmic {
		low, high = p.yTicks[0].Value, p.yTicks[len(p.yTicks)-1].Value
	}
	c.YAxis.Range = &chart.ContinuousRange{Min: low, Max: high}
	c.Elements = []chart.Renderable{chart.LegendLeft(&c)}
	return c.Render(chart.SVG, w)
}

func format(v any) string {
	f, _ := v.(float64)
	return number(f)
}
