package report

import (
	"io"

	chart "github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"
)

// line of a plot.
type line struct {
	who, name string
	x, y      []float64
	dash      bool
}

// colours of the contenders, so that each has its own in every plot.
var colours = map[string]string{
	ours: "1f6feb", river: "d1242f", raw: "8c959f", "Graphile Worker": "1a7f37", "pg-boss": "9a6700",
}

// plot is one picture with one axis each way.
type plot struct {
	title, x, y string
	logarithmic bool
	lines       []line
	ticks       []chart.Tick // of the y axis; nil = by itself
}

// svg draws the plot.
func (p plot) svg(w io.Writer) error {
	c := chart.Chart{
		Title: p.title, TitleStyle: chart.Style{FontSize: 13}, Width: 900, Height: 420,
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 170, Right: 20, Bottom: 20}},
		XAxis:      chart.XAxis{Name: p.x, ValueFormatter: format, Range: &chart.ContinuousRange{}},
		YAxis:      chart.YAxis{Name: p.y, AxisType: chart.YAxisPrimary, ValueFormatter: format, Ticks: p.ticks},
	}
	least, most := 0.0, 0.0
	for _, l := range p.lines {
		style := chart.Style{StrokeWidth: 2, StrokeColor: drawing.ColorFromHex(colours[l.who])}
		if l.dash {
			style.StrokeDashArray = []float64{6, 4}
		}
		c.Series = append(c.Series, chart.ContinuousSeries{Name: l.name, XValues: l.x, YValues: l.y, Style: style})
		for _, y := range l.y {
			most = max(most, y)
			if least == 0 || y < least {
				least = y
			}
		}
	}
	if p.logarithmic {
		c.YAxis.Range = &chart.LogarithmicRange{Min: least, Max: most}
	} else {
		c.YAxis.Range = &chart.ContinuousRange{Min: 0, Max: most * 1.05}
	}
	c.Elements = []chart.Renderable{chart.LegendLeft(&c)}
	return c.Render(chart.SVG, w)
}

func format(v any) string {
	f, _ := v.(float64)
	return number(f)
}
