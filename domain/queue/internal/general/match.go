package general

import "strings"

// Bounds of the forms, so that each look at a message is short.
const (
	maxScheme   = 16
	maxMailName = 64
	maxHostname = 255
)

// matchURL matches a scheme, "://" and all up to a space, a quote or a closing bracket, without the full stop of a sentence.
func matchURL(s string) int {
	n := countRun(s[:min(len(s), maxScheme)], func(c byte) bool {
		return isWordByte(c) && c < 0x80 || c == '+' || c == '.' || c == '-'
	})
	if !strings.HasPrefix(s[n:], "://") {
		return 0
	}
	n += len("://")

	length := countRun(s[n:], func(c byte) bool { return !isSpace(c) && strings.IndexByte("\"'`<>)]}|", c) < 0 })
	for length > 0 && strings.IndexByte(".,:;!?", s[n+length-1]) >= 0 {
		length--
	}
	if length == 0 {
		return 0
	}
	return n + length
}

func isMailByte(c byte) bool {
	return isWordByte(c) || c == '.' || c == '+' || c == '-' || c == '%'
}

// matchMail matches name@host.domain.
func matchMail(s string) int {
	n := countRun(s[:min(len(s), maxMailName)], isMailByte)
	if n == 0 || n == len(s) || s[n] != '@' {
		return 0
	}
	n++

	host := countHost(s[n:])
	if !strings.Contains(s[n:n+host], ".") {
		return 0
	}
	return n + host
}

// countHost returns the length of the hostname that s begins with, without a full stop behind it.
func countHost(s string) int {
	n := countRun(s[:min(len(s), maxHostname)], func(c byte) bool { return isWordByte(c) && c < 0x80 || c == '.' || c == '-' })
	for n > 0 && (s[n-1] == '.' || s[n-1] == '-') {
		n--
	}
	return n
}

// matchUUID matches 8-4-4-4-12 hexadecimal digits.
func matchUUID(s string) int {
	const length = 36
	if len(s) < length {
		return 0
	}
	for i := range length {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return 0
			}
		} else if !isHex(s[i]) {
			return 0
		}
	}
	if !isEnd(s, length) {
		return 0
	}
	return length
}

// matchDigits matches a number without a sign: digits in groups, a fraction, an exponent.
func matchDigits(s string) int {
	n := countRun(s, isDigit)
	// A dot without a digit behind it ends a sentence, so it stays.
	for n > 0 && n+1 < len(s) && (s[n] == '.' || s[n] == ',') && isDigit(s[n+1]) {
		n += 1 + countRun(s[n+1:], isDigit)
	}
	if n == 0 || n+1 >= len(s) || s[n]|0x20 != 'e' {
		return n
	}

	sign := 0
	if s[n+1] == '+' || s[n+1] == '-' {
		sign = 1
	}
	if digits := countRun(s[n+1+sign:], isDigit); digits > 0 {
		n += 1 + sign + digits
	}
	return n
}

func isNumberStart(c byte) bool { return isDigit(c) || c == '-' || c == '+' }

// matchNumber matches a number with or without a sign.
func matchNumber(s string) int {
	if isDigit(s[0]) {
		return matchDigits(s)
	}
	n := matchDigits(s[1:])
	if n == 0 {
		return 0
	}
	return 1 + n
}

// matchHexNumber matches 0x and hexadecimal digits.
func matchHexNumber(s string) int {
	if len(s) < 3 || s[1]|0x20 != 'x' {
		return 0
	}
	n := countRun(s[2:], isHex)
	if n == 0 || !isEnd(s, 2+n) {
		return 0
	}
	return 2 + n
}

// matchHex matches 8 and more hexadecimal digits with a letter and a digit among them, as of a hash.
func matchHex(s string) int {
	n := countRun(s, isHex)
	// Words as "deadbeef" or "facade" have no digit, and short ones are too often words.
	if n < 8 || !isEnd(s, n) || countChanges(s[:n]) < 2 {
		return 0
	}
	return n
}

func isIDByte(c byte) bool { return isWordByte(c) && c < 0x80 || c == '-' }

// matchID matches 12 and more letters and digits that take turns often, as in ids of base 36 or 64.
func matchID(s string) int {
	n := countRun(s, isIDByte)
	for n > 0 && s[n-1] == '-' {
		n--
	}
	// Names as "protocol2version" have three runs. Ids by chance have more.
	if n < 12 || !isEnd(s, n) || countChanges(s[:n]) < 4 {
		return 0
	}
	return n
}

// countChanges returns the number of runs of digits and of other bytes.
func countChanges(s string) int {
	runs := 1
	for i := 1; i < len(s); i++ {
		if isDigit(s[i-1]) != isDigit(s[i]) {
			runs++
		}
	}
	return runs
}

// matchDuration matches numbers with units of time, as 1h30m and 1.5s.
func matchDuration(s string) int {
	total := 0
	for total < len(s) && isDigit(s[total]) {
		n := matchPlain(s[total:])
		unit := matchUnit(s[total+n:])
		if unit == 0 {
			break
		}
		total += n + unit
	}
	if total == 0 || !isEnd(s, total) {
		return 0
	}
	return total
}

// matchPlain matches digits with or without a fraction.
func matchPlain(s string) int {
	n := countRun(s, isDigit)
	if n+1 < len(s) && s[n] == '.' && isDigit(s[n+1]) {
		n += 1 + countRun(s[n+1:], isDigit)
	}
	return n
}

// matchUnit matches a unit of time.
func matchUnit(s string) int {
	for _, unit := range []string{"ns", "us", "µs", "μs", "ms", "sec", "min", "s", "m", "h", "d"} {
		if strings.HasPrefix(s, unit) {
			return len(unit)
		}
	}
	return 0
}
