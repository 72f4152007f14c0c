package restapi

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Duration is a duration in a request: an integer of nanoseconds, or text such as "24h", "1m30s", "7d". It keeps the
// written text until the read, so that an error can name its field.
type Duration struct{ raw []byte }

// DurationOf returns d in the form that the client sends.
func DurationOf(d time.Duration) *Duration {
	return &Duration{raw: strconv.AppendInt(nil, int64(d), 10)}
}

// durationOrNil returns d in the form that the client sends; nil for 0.
func durationOrNil(d time.Duration) *Duration {
	if d == 0 {
		return nil
	}
	return DurationOf(d)
}

// isAbsent reports whether d is absent or null.
func (d *Duration) isAbsent() bool { return d == nil || len(d.raw) == 0 || string(d.raw) == "null" }

// UnmarshalJSON accepts any value; In checks it.
func (d *Duration) UnmarshalJSON(b []byte) error {
	d.raw = bytes.Clone(b)
	return nil
}

// MarshalJSON returns the written text.
func (d Duration) MarshalJSON() ([]byte, error) {
	if len(d.raw) == 0 {
		return []byte("0"), nil
	}
	return d.raw, nil
}

// In returns the duration of field; nil and null become nil.
func (d *Duration) In(field string) (*time.Duration, error) {
	if d.isAbsent() {
		return nil, nil
	}

	text := string(d.raw)
	if n := len(text); n >= 2 && text[0] == '"' {
		text = text[1 : n-1]
		if text == "" {
			return nil, queue.Invalid(field, `must be a duration such as "1m30s", got an empty text`)
		}
		// An object, an array, or true and false; numbers and null go on.
	} else if strings.ContainsAny(text, "{[tf") {
		return nil, queue.Invalid(field, fmt.Sprintf(`must be a duration, got %.64s; write an integer of nanoseconds, or text as "1m30s"`, text))
	}

	v, err := ParseDuration(field, text)
	if err != nil {
		return nil, err
	}

	return &v, nil
}

// Time is a time in a request, RFC 3339. Like Duration it keeps the written text, so that an error can name its field.
type Time struct{ raw []byte }

// TimeOf returns t in the form that the client sends, or nil for the zero time.
func TimeOf(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{raw: t.UTC().AppendFormat(nil, `"`+time.RFC3339Nano+`"`)}
}

// UnmarshalJSON accepts any value; In checks it.
func (t *Time) UnmarshalJSON(b []byte) error {
	t.raw = bytes.Clone(b)
	return nil
}

// MarshalJSON returns the written text.
func (t Time) MarshalJSON() ([]byte, error) {
	if len(t.raw) == 0 {
		return []byte("null"), nil
	}
	return t.raw, nil
}

// In returns the time of field, or the zero time if it is absent or null.
func (t *Time) In(field string) (time.Time, error) {
	if t.isAbsent() {
		return time.Time{}, nil
	}
	return ParseTime(field, strings.Trim(string(t.raw), `"`))
}

// inFilter returns the time of field of a filter as In does, and refuses a stated zero time.
func (t *Time) inFilter(field string) (time.Time, error) {
	v, err := t.In(field)
	if err == nil && !t.isAbsent() {
		err = queue.CheckGivenTime(field, v)
	}
	return v, err
}

// isAbsent reports whether t is absent or null.
func (t *Time) isAbsent() bool { return t == nil || len(t.raw) == 0 || string(t.raw) == "null" }

// ParseTime reads a time of RFC 3339.
func ParseTime(field, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, queue.Invalid(field, fmt.Sprintf("must be a time such as 2026-01-02T15:04:05Z, got %.64q", s))
	}
	return t, nil
}

// valueOrZero returns the duration of field, or 0 if it is absent.
func (d *Duration) valueOrZero(field string) (time.Duration, error) {
	v, err := d.In(field)
	if v == nil || err != nil {
		return 0, err
	}
	return *v, nil
}

// durationPart matches one number of a duration with its unit, durationText all of them.
var (
	durationPart = regexp.MustCompile(`([0-9.]+)([^0-9.]+)`)
	durationText = regexp.MustCompile(`^(?:[0-9.]+[^0-9.]+)+$`)
)

// ParseDuration reads an integer of nanoseconds, or numbers with the units w, d, h, m, s, ms, us and ns, such as
// "1d12h". It refuses negative and too long durations, and the error names field.
func ParseDuration(field, s string) (time.Duration, error) {
	// Nanoseconds are the form of the predecessor.
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return time.Duration(n), nil
	}
	if strings.HasPrefix(s, "-") {
		return 0, queue.Invalid(field, fmt.Sprintf("must be a duration of 0 or more, got %.64s", s))
	}

	invalid := queue.Invalid(field, fmt.Sprintf(`must be a duration within 10 years, got %q; write an integer of nanoseconds, or as "1m30s", "7d"`, Shorten(s)))
	if !durationText.MatchString(s) {
		return 0, invalid
	}

	// time.ParseDuration has no days and weeks, so each number is parsed with its own unit.
	var sum time.Duration
	for _, part := range durationPart.FindAllStringSubmatch(s, -1) {
		unit, times := part[2], 1
		switch unit {
		case "d":
			unit, times = "h", 24
		case "w":
			unit, times = "h", 7*24
		}

		d, err := time.ParseDuration(part[1] + unit)
		// Both bounds are checked before they overflow. The domain refuses what is above ten years.
		if err != nil || d > math.MaxInt64/time.Duration(times) || sum > math.MaxInt64-d*time.Duration(times) {
			return 0, invalid
		}
		sum += d * time.Duration(times)
	}
	return sum, nil
}

// Quote returns the text of a caller for a message, cut and in quotes.
func Quote(s string) string { return strconv.Quote(Shorten(s)) }

// Shorten cuts the text of a caller for a message to about 32 bytes.
func Shorten(s string) string {
	if len(s) > 32 {
		return strings.ToValidUTF8(s[:32], "") + "…"
	}
	return s
}
