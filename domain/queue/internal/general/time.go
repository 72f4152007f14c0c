package general

import "strings"

// matchPattern matches s with a pattern in which 0 stands for a digit and every other byte for itself.
func matchPattern(s, pattern string) bool {
	if len(s) < len(pattern) {
		return false
	}
	for i := range len(pattern) {
		if pattern[i] == '0' && !isDigit(s[i]) || pattern[i] != '0' && pattern[i] != s[i] {
			return false
		}
	}
	return true
}

// matchTime matches a date, a date with a time of the day, or such a time, with a zone.
func matchTime(s string) int {
	n := matchDate(s)
	if n == 0 {
		n = matchClock(s)
		if n == 0 || !isClockAlone(s[:n]) {
			return 0
		}
	} else if n < len(s) && strings.IndexByte("T_ t", s[n]) >= 0 {
		if clock := matchClock(s[n+1:]); clock > 0 {
			n += 1 + clock
			return n + matchZone(s[n:])
		}
	}

	if !isEnd(s, n) && s[n] != 'Z' {
		return 0
	}
	return n + matchZone(s[n:])
}

// matchDate matches a year, a month and a day.
func matchDate(s string) int {
	if matchPattern(s, "0000-00-00") || matchPattern(s, "0000/00/00") {
		return len("0000-00-00")
	}
	return 0
}

// matchClock matches hours, minutes and seconds; the seconds and their fraction may be absent.
func matchClock(s string) int {
	n := len("00:00")
	if !matchPattern(s, "00:00") {
		if !matchPattern(s, "0:00") {
			return 0
		}
		n = len("0:00")
	}

	if matchPattern(s[n:], ":00") {
		n += 3
		if n+1 < len(s) && (s[n] == '.' || s[n] == ',') && isDigit(s[n+1]) {
			n += 1 + countRun(s[n+1:], isDigit)
		}
	}
	return n
}

// isClockAlone reports whether a text is a time of the day also without a date: only with seconds.
func isClockAlone(s string) bool { return strings.Count(s, ":") == 2 }

// matchZone matches the zone of a time: Z, +02:00, +0200, +02, UTC or GMT behind a space.
func matchZone(s string) int {
	n := countRun(s[:min(len(s), 1)], func(c byte) bool { return c == ' ' })
	for _, name := range []string{"UTC", "GMT"} {
		if strings.HasPrefix(s[n:], name) && isEnd(s, n+len(name)) {
			return n + len(name)
		}
	}
	if strings.HasPrefix(s, "Z") && isEnd(s, 1) {
		return 1
	}

	if len(s) > n && (s[n] == '+' || n == 0 && s[n] == '-') {
		for _, form := range []string{"00:00", "0000", "00"} {
			if matchPattern(s[n+1:], form) && isEnd(s, n+1+len(form)) {
				return n + 1 + len(form)
			}
		}
	}
	return 0
}

var (
	weekdays = []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	months   = []string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
)

// hasName returns the length of the name in names that s begins with, and of the separator behind it.
func hasName(s string, names []string, separator string) int {
	for _, name := range names {
		if strings.HasPrefix(s, name) && strings.HasPrefix(s[len(name):], separator) {
			return len(name) + len(separator)
		}
	}
	return 0
}

// matchNamedTime matches times of HTTP and of C: "Mon, 02 Jan 2006 15:04:05 GMT" and "Mon Jan  2 15:04:05 UTC 2006".
func matchNamedTime(s string) int {
	const clock, year = "00:00:00", "0000"
	if n := hasName(s, weekdays, ", "); n > 0 {
		n += matchDay(s[n:])
		month := hasName(s[n:], months, " ")
		n += month
		if month == 0 || !matchPattern(s[n:], year+" "+clock) {
			return 0
		}
		n += len(year + " " + clock)
		return n + matchZone(s[n:])
	}

	weekday := hasName(s, weekdays, " ")
	month := hasName(s[weekday:], months, " ")
	if weekday == 0 || month == 0 {
		return 0
	}
	n := weekday + month
	n += matchDay(s[n:])
	if !matchPattern(s[n:], clock+" ") {
		return 0
	}
	n += len(clock + " ")
	if zone := countRun(s[n:], func(c byte) bool { return c >= 'A' && c <= 'Z' }); zone > 0 && zone < len(s)-n && s[n+zone] == ' ' {
		n += zone + 1
	}
	if !matchPattern(s[n:], year) || !isEnd(s, n+len(year)) {
		return 0
	}
	return n + len(year)
}

// matchDay matches the day of a month with the space behind it.
func matchDay(s string) int {
	for _, form := range []string{"00 ", " 0 ", "0 "} {
		if matchPattern(s, form) {
			return len(form)
		}
	}
	return 0
}
