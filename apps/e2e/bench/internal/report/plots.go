package report

import (
	"math"
	"strconv"
	"strings"

	chart "github.com/wcharczuk/go-chart/v2"
)

// picture is a plot with the name of its file.
type picture struct {
	file string
	plot plot
}

// plots returns the plots for which there are results.
func (r *Results) plots() []picture {
	var all []picture
	if r.ran("live held") {
		p := plot{title: "A snapshot is held by another session", x: "seconds", y: "tasks a second"}
		for _, id := range []string{"live held", "live"} {
			for _, who := range r.contenders(id) {
				if l, ok := r.series(id, who); ok {
					p.lines = append(p.lines, l)
				}
			}
		}

		length := 0
		for _, l := range p.lines {
			length = max(length, len(l.x))
		}
		for at := 0; at <= length; at += max(length/10, 1) {
			p.xTicks = append(p.xTicks, chart.Tick{Value: float64(at), Label: strconv.Itoa(at)})
		}
		all = append(all, picture{"held.svg", p})
	}

	if r.ran("pickup") {
		all = append(all, picture{"pickup.svg", r.curves("pickup", "pickup", "commit", "From commit to the handler's first line, idle queue")})
	}
	for _, id := range r.ids() {
		if n, ok := strings.CutPrefix(id, "offered "); ok {
			all = append(all, picture{"offered-" + n + ".svg", r.curves(id, "offered", "due", n+" tasks a second: from due to the handler's first line")})
		}
	}

	drawn := all[:0]
	for _, x := range all {
		if len(x.plot.lines) > 0 {
			drawn = append(drawn, x)
		}
	}
	return drawn
}

// series returns the rate over time of the median round.
func (r *Results) series(id, who string) (line, bool) {
	middle := r.of(id, who, "live", rate).Median
	l := line{who: who, name: who + ", held"}
	if id == "live" {
		l.name, l.dash = who+", free", true
	}

	best := -1.0
	for _, run := range r.Runs {
		if run.ID != id || run.Contender != who || run.Err != "" {
			continue
		}
		for _, p := range run.Phases {
			off := max(p.Rate()-middle, middle-p.Rate())
			if p.Name != "live" || len(p.Series) < 2 || best >= 0 && off >= best {
				continue
			}

			best, l.x, l.y = off, nil, p.Series
			for i := range p.Series {
				l.x = append(l.x, float64(i+1))
			}
		}
	}
	return l, best >= 0
}

// curves returns the latency quantiles of all contenders from the first round.
func (r *Results) curves(id, phase, from, title string) plot {
	p := plot{title: title, x: "of 100 tasks so many were as quick or quicker", y: "ms", logarithmic: true}

	most := 0.0
	for _, who := range r.contenders(id) {
		for _, run := range r.Runs {
			if run.ID != id || run.Contender != who || run.Round != 0 {
				continue
			}
			for _, ph := range run.Phases {

				q := ph.Latency[from]
				if ph.Name != phase || len(q.Curve) == 0 {
					continue
				}

				l := line{who: who, name: who}
				for i, v := range q.Curve[:len(q.Curve)-1] { // without the maximum, which would set the scale
					l.x, l.y = append(l.x, float64(i)), append(l.y, math.Log10(max(v, 0.1)))
					most = max(most, v)
				}
				p.lines = append(p.lines, l)
			}
		}
	}

	for _, v := range []float64{0.1, 1, 10, 100, 1000, 10_000, 100_000} {
		p.yTicks = append(p.yTicks, chart.Tick{Value: math.Log10(v), Label: strconv.FormatFloat(v, 'f', -1, 64)})
		if v > most {
			break
		}
	}
	for _, v := range []float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99} {
		p.xTicks = append(p.xTicks, chart.Tick{Value: v, Label: number(v)})
	}
	return p
}
