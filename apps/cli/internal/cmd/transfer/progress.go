package transfer

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
)

// progress is a line on a terminal that shows the position in a file.
type progress struct {
	f     *factory.Factory
	begin time.Time
	last  time.Time
	wrote bool
	// hidden keeps it off the terminal.
	hidden bool
}

const (
	progressEvery = 100 * time.Millisecond
	barCells      = 24
)

func newProgressLine(f *factory.Factory) *progress { return &progress{f: f, begin: time.Now()} }

// showPosition draws the line: done of all bytes (0 = not known), and the number of tasks.
func (p *progress) showPosition(done, all, tasks int64) {
	now := time.Now()
	if p.hidden || !p.f.IO.ErrTTY || p.f.IO.Dumb || now.Sub(p.last) < progressEvery {
		return
	}

	p.last, p.wrote = now, true
	// The first line may come at once: 1 ms keeps its rate finite.
	passed := now.Sub(p.begin)
	rate := output.Rate(float64(tasks) / max(passed.Seconds(), 0.001))
	if all <= 0 || done <= 0 {
		fmt.Fprintf(p.f.IO.Err, "%s%s  %s", p.f.IO.ClearLine(), output.Count(tasks, "task"), rate)
		return
	}

	share := min(float64(done)/float64(all), 1)
	full := int(share * barCells)
	// The rest takes as long in proportion as the part that is done.
	left := time.Duration(float64(passed) * (1 - share) / share)
	fmt.Fprintf(p.f.IO.Err, "%s%s%s %3.0f%%  %s  %s  %s left", p.f.IO.ClearLine(),
		strings.Repeat("█", full), strings.Repeat("░", barCells-full), 100*share, output.Count(tasks, "task"), rate, output.Duration(left.Round(time.Second)))
}

// clearProgress removes the line.
func (p *progress) clearProgress() {
	if p.wrote {
		fmt.Fprint(p.f.IO.Err, p.f.IO.ClearLine())
	}
}
