package general

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// MaxBytes bounds the general form of a message. Longer messages are dumps, which differ at their end.
	MaxBytes = 512
	// MaxRead bounds the part of a message that is read, frames of a stack included.
	MaxRead = 16 << 10
)

// Message returns the general form of message, in one pass. It never fails, also for invalid UTF-8.
func Message(message string) string {
	message = strings.ToValidUTF8(TruncateText(message, MaxRead), "\uFFFD")
	g := generalizer{text: removeFrames(message), out: make([]byte, 0, MaxBytes)}
	for g.at < len(g.text) && !g.full {
		g.writeToken()
	}
	return strings.TrimRight(string(g.out), " ")
}

// generalizer makes a general message in one pass. Each step reads one token at at and appends its general form, which reads
// as the same token: so a second pass changes nothing. Steps depend on the text read, on out and on word alone.
type generalizer struct {
	text string
	at   int
	out  []byte
	// word is the last word of out, in lower case; "" behind data.
	word string
	// full: nothing more fits.
	full bool
}

// writeToken appends the general form of the next token.
func (g *generalizer) writeToken() {
	rest := g.text[g.at:]
	c := rest[0]

	// First, so that the general form of a general form is the same.
	if n := matchPlaceholder(rest); n > 0 {
		g.replace(n, rest[:n])
		return
	}
	if g.isBoundary() && g.writeData(rest) {
		return
	}

	switch {
	case isSpace(c):
		g.at++
		if len(g.out) > 0 && g.out[len(g.out)-1] != ' ' {
			g.appendSign(" ")
		}
	case isDigit(c):
		g.replace(matchDigits(rest), "<n>")
	case g.writeQuoted(rest):
	case isLetter(c):
		g.writeWord(rest)
	default:
		g.at++
		g.appendSign(rest[:1])
	}
}

// isBoundary reports whether data may begin here: not within a word, nor right behind other data.
func (g *generalizer) isBoundary() bool {
	if len(g.out) == 0 {
		return true
	}
	c := g.out[len(g.out)-1]
	return !isWordByte(c) && (c != '>' || bytes.HasSuffix(g.out, []byte("->"))) // "10.0.0.1:80->10.0.0.2:443"
}

// writeData replaces the data that rest begins with, and reports whether there is any.
func (g *generalizer) writeData(rest string) bool {
	if n := matchHTTPVersion(rest); n > 0 {
		g.at += n
		g.appendWhole(rest[:n])
		g.word = "http"
		return true
	}
	if n := matchCode(g.word, rest); n > 0 {
		g.at += n
		g.appendWhole(rest[:n])
		g.word = ""
		return true
	}

	for _, form := range dataForms {
		if !form.begins(rest[0]) {
			continue
		}
		if n := form.match(rest); n > 0 {
			g.replace(n, form.place)
			return true
		}
	}
	return false
}

// writeWord appends the letters that rest begins with.
func (g *generalizer) writeWord(rest string) {
	n := 1
	for n < len(rest) && isLetter(rest[n]) {
		n++
	}
	g.at += n

	word := TruncateText(rest[:n], max(0, MaxBytes-len(g.out)))
	g.full = len(word) < n
	g.out = append(g.out, word...)
	g.word = strings.ToLower(word[:min(len(word), longestMarker)])
	if len(word) > longestMarker {
		g.word = "" // no marker
	}
}

// writeQuoted appends the general form of the text in quotes that rest begins with, and reports whether there is one.
func (g *generalizer) writeQuoted(rest string) bool {
	q := findQuote(rest)
	if q == nil || q.open == "'" && !g.isBoundary() { // an apostrophe, as in "can't"
		return false
	}
	n := q.match(rest)
	if n == 0 {
		return false
	}

	name, after := generalName(rest[len(q.open):n-len(q.end)]), ""
	if name != "" && !slices.Contains(thingWords, g.word) {
		after = g.findNamed(rest[n:])
		if after == "" {
			name = ""
		}
	}
	if name == "" {
		g.replace(n, q.open+"<text>"+q.end)
		return true
	}

	g.at += n + len(after)
	g.appendWhole(q.open + name + q.end + after)
	g.word = ""
	return true
}

// findNamed returns the beginning of rest that makes the text in quotes before it a name: as in {"a":1}, or behind 'T' in
// "'T' object has no attribute 'x'".
func (g *generalizer) findNamed(rest string) string {
	before := bytes.TrimRight(g.out, " ")
	if strings.HasPrefix(rest, ":") && len(before) > 0 && (before[len(before)-1] == '{' || before[len(before)-1] == ',') {
		return ":"
	}
	for _, follower := range []string{" object", " is not defined"} {
		if strings.HasPrefix(rest, follower) {
			return follower
		}
	}
	return ""
}

// replace appends a placeholder for the next n bytes. A list of equal placeholders becomes one.
func (g *generalizer) replace(n int, place string) {
	g.at += n
	g.word = ""
	for _, separator := range []string{", ", ","} {
		// Errors that list their items differ in the number of items alone.
		before, ok := bytes.CutSuffix(g.out, []byte(separator))
		if ok && bytes.HasSuffix(before, []byte(place)) {
			g.out = before
			return
		}
	}
	g.appendWhole(place)
}

// appendWhole appends s, or ends the message before it.
func (g *generalizer) appendWhole(s string) {
	if len(g.out)+len(s) > MaxBytes {
		g.full = true
		return
	}
	g.out = append(g.out, s...)
}

// appendSign appends a character between words. Some of them keep the word: "code: 404" and "code=404" are codes.
func (g *generalizer) appendSign(s string) {
	if s[0] == '.' || s[0] == ';' || s[0] == ',' || s[0] == ')' {
		g.word = ""
	}
	g.appendWhole(s)
}

// The lines that begin a stack of Python and one of Go.
const (
	pythonStack = "Traceback (most recent call last):"
	goStack     = "\n\ngoroutine "
)

// removeFrames removes the frames of a stack, which change with every build: the stack of Go behind the message, lines as
// "  at f (file:1)" and "  ... 5 more" of Java, Node and others, and the stack of Python before the message.
func removeFrames(message string) string {
	if !strings.Contains(message, "\n") {
		return message
	}
	// Behind it stand addresses and line numbers alone.
	message, _, _ = strings.Cut(message, goStack)

	var b strings.Builder
	inStack := false
	for line := range strings.Lines(message) {
		indented := isSpace(line[0])
		text := strings.TrimSpace(line)
		switch {
		case text == pythonStack:
			// The last error of a chain is the one that was seen.
			b.Reset()
			inStack = true
			continue
		case inStack && (indented || text == ""), indented && isFrame(text):
			continue
		}
		inStack = false
		b.WriteString(line)
	}

	if strings.TrimSpace(b.String()) == "" {
		return strings.ReplaceAll(message, "\n", " ")
	}
	return b.String()
}

// isFrame reports whether an indented line is a frame of a stack.
func isFrame(line string) bool {
	return strings.HasPrefix(line, "at ") || strings.HasPrefix(line, "... ") && strings.HasSuffix(line, " more")
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// isLetter counts all bytes beyond ASCII as letters.
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= utf8.RuneSelf || c == '_' }

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// TruncateText shortens s to at most n bytes at a rune's border.
func TruncateText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
