package output

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Duration formats d for people with its two largest units: "7d", "1h30m", "450ms"; "-" for 0.
func Duration(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Millisecond:
		return d.String()
	case d < time.Second:
		return strconv.FormatInt(d.Round(time.Millisecond).Milliseconds(), 10) + "ms"
	}

	// From a second on smaller parts only distract.
	d = d.Round(time.Second)
	units := []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

	var b strings.Builder

	for i, u := range units {
		n := d / u.unit
		if n == 0 {
			continue
		}

		fmt.Fprintf(&b, "%d%s", n, u.name)

		// The second unit is the next one alone: 1d30s is 1d.
		if i+1 < len(units) {
			if m := d % u.unit / units[i+1].unit; m > 0 {
				fmt.Fprintf(&b, "%d%s", m, units[i+1].name)
			}
		}

		break
	}

	return b.String()
}

// Ago formats the time between t and now, "in …" for a later t, "-" for the zero time.
func Ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "-"
	case d < 0:
		return "in " + Duration((-d).Round(time.Second)+0)
	case d < time.Second:
		return "now"
	default:
		return Duration(d) + " ago"
	}
}

// Time formats t for people in the zone of now, "-" for the zero time.
func Time(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(now.Location()).Format("2006-01-02 15:04:05") + " (" + Ago(t, now) + ")"
}

// StatusStyle returns the style of a status.
func StatusStyle(s queue.Status) iostreams.Style {
	switch s {
	case queue.StatusNew:
		return iostreams.Blue
	case queue.StatusRetry:
		return iostreams.Yellow
	case queue.StatusRetained:
		return iostreams.Cyan
	case queue.StatusReleased:
		return iostreams.Green
	case queue.StatusFailed:
		return iostreams.Red
	case queue.StatusExpired, queue.StatusCancelled:
		return iostreams.Faint
	}

	return iostreams.Plain
}

// Clean removes control characters, so that a payload can neither move the cursor of a terminal nor break a line.
func Clean(s string) string { return program.Clean(s) }

// Dash returns s, or "-" for an empty s.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return Clean(s)
}

// Number formats n in digits.
func Number(n int64) string { return strconv.FormatInt(n, 10) }

// Count formats a number with its noun: "1 task", "2 tasks".
func Count[N int | int64](n N, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Rate formats a number per second: "0", "0.3/s", "12/s".
func Rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0"
	case perSecond < 0.05:
		return "<0.1/s"
	case perSecond < 10:
		return strconv.FormatFloat(perSecond, 'f', 1, 64) + "/s"
	}

	return strconv.FormatFloat(perSecond, 'f', 0, 64) + "/s"
}

// YesNo formats b as "yes" or "no".
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
