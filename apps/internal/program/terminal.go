package program

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// harmful says that a terminal may act on r instead of showing it: control characters, marks that turn the direction of
// text around, and those that have no width.
func harmful(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Clean makes text from outside harmless on one line of a terminal: line ends and tabs become blanks, anything else that
// a terminal acts on becomes U+FFFD.
func Clean(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, harmful) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case harmful(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// Guard lets a program write control sequences of its own to a terminal that foreign text is written to as well. It
// marks its sequences with a random key, which foreign text cannot hold. A nil Guard marks and lets through nothing.
type Guard struct{ key string }

// NewGuard makes a guard with a key of its own.
func NewGuard() *Guard { return &Guard{key: rand.Text()} }

// Sequence marks s, for writers that Writer has made. Other writers must not get it.
func (g *Guard) Sequence(s string) string {
	if g == nil {
		return s
	}
	return mark + g.key + s + mark
}

// mark stands before and after a key with its sequence.
const mark = "\x00"

// Writer writes JSON escapes to w in place of the characters that a terminal acts on, so that foreign text can do nothing
// by whichever way it comes. Line ends, tabs and the sequences of g pass; a sequence must be in one Write.
func (g *Guard) Writer(w io.Writer) io.Writer {
	t := &terminalWriter{w: w}
	if g != nil {
		t.begin = []byte(mark + g.key)
	}
	return t
}

// TerminalWriter is the Writer of a program without control sequences of its own.
func TerminalWriter(w io.Writer) io.Writer { return (*Guard)(nil).Writer(w) }

type terminalWriter struct {
	w     io.Writer
	begin []byte // of an own sequence; nil = there are none
	rest  []byte // of a rune that a write ended in
}

func (t *terminalWriter) Write(p []byte) (int, error) {
	b := slices.Concat(t.rest, p)
	var out bytes.Buffer
	for len(b) > 0 && utf8.FullRune(b) {
		if sequence, after, ok := t.cutSequence(b); ok {
			out.Write(sequence)
			b = after
			continue
		}
		r, n := utf8.DecodeRune(b)
		writeEscaped(&out, r, b[:n])
		b = b[n:]
	}

	t.rest = bytes.Clone(b)
	if _, err := t.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// cutSequence cuts a sequence of the program's own off the beginning of b.
func (t *terminalWriter) cutSequence(b []byte) (sequence, after []byte, ok bool) {
	if b, ok := bytes.CutPrefix(b, []byte("\r\n")); ok {
		return []byte("\r\n"), b, true
	}
	if t.begin == nil || !bytes.HasPrefix(b, t.begin) {
		return nil, nil, false
	}
	return bytes.Cut(b[len(t.begin):], []byte(mark))
}

// writeEscaped writes the rune r, which is text in UTF-8, as JSON escapes when a terminal would act on it.
func writeEscaped(out *bytes.Buffer, r rune, text []byte) {
	switch {
	case r == utf8.RuneError && len(text) == 1:
		out.WriteRune(r)
	case r == '\n' || r == '\t' || !harmful(r):
		out.Write(text)
	case r > 0xFFFF:
		high, low := utf16.EncodeRune(r)
		fmt.Fprintf(out, `\u%04x\u%04x`, high, low)
	default:
		fmt.Fprintf(out, `\u%04x`, r)
	}
}
