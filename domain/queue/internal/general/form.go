package general

import (
	"slices"
	"strings"
)

// dataForm is one form of data in a message. match returns the length of the data at the beginning of a text, or 0. Forms
// ignore the values of digits, so that equal errors meet.
type dataForm struct {
	place  string
	begins func(byte) bool
	match  func(string) int
}

// dataForms are tried in this order.
var dataForms = []dataForm{
	{"<url>", isLetter, matchURL},
	{"<mail>", isMailByte, matchMail},
	{"<uuid>", isHex, matchUUID},
	{"<time>", isDigit, matchTime},
	{"<time>", isLetter, matchNamedTime},
	{"<addr>", isAddrStart, matchAddr},
	{"<path>", isPathStart, matchPath},
	{"<hex>", isDigit, matchHexNumber},
	{"<hex>", isHex, matchHex},
	{"<id>", isIDByte, matchID},
	{"<duration>", isDigit, matchDuration},
	{"<n>", isNumberStart, matchNumber},
}

var placeholders = []string{"<n>", "<text>", "<url>", "<mail>", "<uuid>", "<time>", "<addr>", "<path>", "<hex>", "<id>", "<duration>"}

// matchPlaceholder returns the length of a placeholder.
func matchPlaceholder(s string) int {
	if s[0] != '<' {
		return 0
	}
	for _, p := range placeholders {
		if strings.HasPrefix(s, p) {
			return len(p)
		}
	}
	return 0
}

// longestMarker is the length of the longest word that has a meaning for the rules.
const longestMarker = 16

var (
	// codeWords stand before numbers that say which error it is.
	codeWords = []string{"status", "code", "http", "errno", "signal", "sqlstate"}
	// thingWords stand before the quoted name of a part of a program, which is not data.
	thingWords = []string{
		"attribute", "class", "column", "command", "constraint", "database", "exec", "extension", "field", "flag", "function",
		"handler", "index", "key", "method", "module", "name", "named", "operator", "option", "package", "parameter",
		"property", "queue", "reading", "relation", "role", "schema", "sequence", "table", "trigger", "type", "variable", "view",
	}
)

// matchCode returns the length of the code behind word: up to 4 digits, or the 5 characters of an SQLSTATE.
func matchCode(word, s string) int {
	if !slices.Contains(codeWords, word) {
		return 0
	}
	n := countRun(s, isWordByte)
	digits := countRun(s, isDigit)
	switch {
	case word == "sqlstate" && n == 5 && countRun(s, func(c byte) bool { return isDigit(c) || c >= 'A' && c <= 'Z' }) == 5:
		return n
	case digits > 0 && digits == n && n <= 4:
		return n
	}
	return 0
}

// matchHTTPVersion returns the length of "HTTP/1.1".
func matchHTTPVersion(s string) int {
	if !strings.HasPrefix(s, "HTTP/") || len(s) < 6 || !isDigit(s[5]) {
		return 0
	}
	n := 6
	if len(s) > 7 && s[6] == '.' && isDigit(s[7]) {
		n = 8
	}
	if n < len(s) && isWordByte(s[n]) {
		return 0
	}
	return n
}

// quote is a pair of quotation marks.
type quote struct{ open, end string }

var quotes = []quote{{`"`, `"`}, {"'", "'"}, {"`", "`"}, {"“", "”"}, {"„", "“"}, {"«", "»"}}

// maxQuoted bounds a text in quotes, with its marks.
const maxQuoted = 2048

// findQuote returns the marks that s begins with.
func findQuote(s string) *quote {
	for i := range quotes {
		if strings.HasPrefix(s, quotes[i].open) {
			return &quotes[i]
		}
	}
	return nil
}

// match returns the length of the text in quotes that s begins with, 0 without an end. A backslash takes the meaning of a
// mark.
func (q *quote) match(s string) int {
	s = s[:min(len(s), maxQuoted)]
	for i := len(q.open); i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.HasPrefix(s[i:], q.end):
			return i + len(q.end)
		}
	}
	return 0
}

// maxNameBytes bounds the names in quotes that stay.
const maxNameBytes = 64

// generalName returns s when it may be the name of a part of a program, with a placeholder in the place of digits; else "".
func generalName(s string) string {
	if s == "" || len(s) > maxNameBytes || !isLetter(s[0]) {
		return ""
	}
	b := make([]byte, 0, maxNameBytes)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case strings.HasPrefix(s[i:], "<n>"):
			b = append(b, "<n>"...)
			i += 2
		case isLetter(c), c == '.', c == '-', c == '$', c == ':', c == '/':
			b = append(b, c)
		case isDigit(c):
			i += countRun(s[i:], isDigit) - 1
			b = append(b, "<n>"...)
		default:
			return ""
		}
	}
	return string(b)
}

// countRun returns the number of bytes at the beginning of s that fit.
func countRun(s string, fits func(byte) bool) int {
	n := 0
	for n < len(s) && fits(s[n]) {
		n++
	}
	return n
}

func isWordByte(c byte) bool { return isLetter(c) || isDigit(c) }

// isEnd reports whether no word goes on at n.
func isEnd(s string, n int) bool { return n >= len(s) || !isWordByte(s[n]) }
