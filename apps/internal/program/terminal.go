package program

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
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

// TerminalWriter writes to a terminal what that may act on as JSON escapes, so that text from outside can do nothing,
// by whatever way it comes. Line ends, tabs, colours and the sequences that take a line or the screen away pass.
func TerminalWriter(w io.Writer) io.Writer { return &terminalWriter{w: w} }

type terminalWriter struct {
	w    io.Writer
	rest []byte // of a rune that a write ended in
}

// own are the sequences that programs of pgqueue write themselves.
var own = regexp.MustCompile(`^(\x1b\[[0-9;]*m|\r?\x1b\[K|\r\n|\x1b\[H\x1b\[2J)`)

func (t *terminalWriter) Write(p []byte) (int, error) {
	b := slices.Concat(t.rest, p)
	var out bytes.Buffer
	for len(b) > 0 {
		if !utf8.FullRune(b) {
			break
		}
		if b[0] == '\x1b' || b[0] == '\r' {
			if seq := own.Find(b); seq != nil {
				out.Write(seq)
				b = b[len(seq):]
				continue
			}
		}
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			out.WriteRune(r)
		case r == '\n' || r == '\t' || !harmful(r):
			out.Write(b[:n])
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		b = b[n:]
	}
	t.rest = bytes.Clone(b)
	if _, err := t.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
