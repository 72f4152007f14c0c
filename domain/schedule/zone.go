package schedule

import (
	"math"
	"regexp"
	"strings"
	"time"
)

// zone converts between instants and the local time of a place. Instants are
// Unix seconds. A local time is the number of seconds at which a UTC clock shows
// the same date and time, so local = instant + offset.
type zone struct{ loc *time.Location }

// maxOffset exceeds every offset from UTC, in seconds. The largest offsets in the
// IANA database are those of the 19th century around the date line, just under
// 16 hours (57,368 s) in either direction.
const maxOffset = 26 * 60 * 60

// always and never bound the times; they are far enough from the ends of int64 for additions.
const (
	always = math.MinInt64 / 4
	never  = math.MaxInt64 / 4
)

// spanOfOffset returns the interval start ≤ instant < end around at with one offset.
// Neighbouring spans may have equal offsets.
func (z zone) spanOfOffset(at int64) (start, end, offset int64) {
	t := time.Unix(at, 0).In(z.loc)
	_, off := t.Zone()
	s, e := t.ZoneBounds()

	start, end = always, never
	if !s.IsZero() {
		start = s.Unix()
	}
	if !e.IsZero() {
		end = e.Unix()
	}

	if end <= at {
		// Beyond the explicit changes of its table, package time lets the last
		// span of a year end after 365 days. That is before the 31 December of a
		// leap year that was asked for (seen in Go 1.26). The offset is right, and
		// holds to the end of the year in UTC.
		end = (divideDown(at, 24*60*60) + 1) * 24 * 60 * 60
	}
	return start, end, int64(off)
}

// firstInstantAt returns the first instant at which the clock shows local or a later
// time. This covers the three cases of a fixed local time: the only instant that
// shows it, the first of two, or the end of the gap that contains it.
func (z zone) firstInstantAt(local int64) int64 {
	// Before this instant the clock cannot have shown local yet.
	at := local - maxOffset
	for {
		start, end, offset := z.spanOfOffset(at)
		if first := max(local-offset, start, at); first < end {
			return first
		}
		at = end
	}
}

// highestLocalBefore returns the latest local time that the clock has shown at or before
// at. It is the inverse of firstInstantAt: firstInstantAt(local) > at exactly when
// local > highestLocalBefore(at).
func (z zone) highestLocalBefore(at int64) int64 {
	start, _, offset := z.spanOfOffset(at)
	shown := at + offset

	// Instants before start - 2·maxOffset had an earlier local time, whatever
	// their offset was.
	for start > at-2*maxOffset {
		end := start
		start, _, offset = z.spanOfOffset(end - 1)
		shown = max(shown, end-1+offset)
	}
	return shown
}

// loadTimeZone loads a zone by its IANA name. It refuses names that depend on the
// host ("Local", "localtime"), and the variants with leap seconds that some
// hosts have under "right/", because two processes could disagree about them.
func loadTimeZone(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	if len(name) > MaxTimezoneBytes {
		return nil, invalidSpec(FieldTimezone, "must have at most %d bytes, got %d", MaxTimezoneBytes, len(name))
	}

	switch lower := strings.ToLower(name); {
	case !zoneName.MatchString(name):
		return nil, invalidSpec(FieldTimezone, "must be an IANA name such as \"Europe/Berlin\", got %.64q", name)
	case lower == "local" || lower == "localtime" || lower == "posixrules":
		return nil, invalidSpec(FieldTimezone, "must not depend on the host, got %.64q; give an IANA name such as \"Europe/Berlin\", or nothing for UTC", name)
	case strings.HasPrefix(lower, "right/") || strings.HasPrefix(lower, "posix/"):
		return nil, invalidSpec(FieldTimezone, "must be an IANA name, got %.64q; leave out the part before the first slash", name)
	}

	loc, err := time.LoadLocation(name)
	if err != nil {
		// The error does not wrap its cause, which holds paths of the host.
		return nil, invalidSpec(FieldTimezone, "must be in the time zone database of this host, got %.64q; give an IANA name such as \"Europe/Berlin\"", name)
	}
	return loc, nil
}

// zoneName matches the names that the IANA database may hold. Others could name a file outside it.
var zoneName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9/_+-]*$`)
