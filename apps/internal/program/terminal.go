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

// harmful reports whether a terminal may act on r instead of showing it: control characters, marks that change the
// direction of text, and characters without a width.
func harmful(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Clean makes foreign text safe for one line of a terminal. Line ends and tabs become blanks; other characters on
// which a terminal acts become U+FFFD.
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

// Guard allows a program its own control sequences on a terminal that also shows foreign text. A random key marks its
// sequences, and foreign text cannot contain this key. A nil Guard allows no sequence.
type Guard struct{ key string }

// NewGuard returns a guard with a new key.
func NewGuard() *Guard { return &Guard{key: rand.Text()} }

// Sequence marks s for the writers of Writer. Other writers must not receive it.
func (g *Guard) Sequence(s string) string {
	if g == nil {
		return s
	}
	return mark + g.key + s + mark
}

// mark encloses a key with its sequence.
const mark = "\x00"

// Writer writes to w with JSON escapes in place of the characters on which a terminal acts, so that foreign text has
// no effect. Line ends, tabs and the sequences of g pass. A sequence must be in one Write.
func (g *Guard) Writer(w io.Writer) io.Writer {
	t := &terminalWriter{w: w}
	if g != nil {
		t.begin = []byte(mark + g.key)
	}
	return t
}

// TerminalWriter returns the Writer of a program without its own control sequences.
func TerminalWriter(w io.Writer) io.Writer { return (*Guard)(nil).Writer(w) }

type terminalWriter struct {
	w     io.Writer
	begin []byte // of a marked sequence; nil = no sequences
	rest  []byte // the incomplete rune at the end of the last write
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

// cutSequence cuts a marked sequence from the beginning of b.
func (t *terminalWriter) cutSequence(b []byte) (sequence, after []byte, ok bool) {
	if b, ok := bytes.CutPrefix(b, []byte("\r\n")); ok {
		return []byte("\r\n"), b, true
	}
	if t.begin == nil || !bytes.HasPrefix(b, t.begin) {
		return nil, nil, false
	}
	return bytes.Cut(b[len(t.begin):], []byte(mark))
}

// writeEscaped writes the rune r, with its UTF-8 text, and uses JSON escapes if a terminal would act on it.
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
