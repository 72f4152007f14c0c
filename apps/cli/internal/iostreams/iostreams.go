// Package iostreams holds what a command reads and writes, and what is known about the terminal behind it.
package iostreams

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// IO is the standard streams of a command.
type IO struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	// OutTTY and ErrTTY say that a person reads there, InTTY that one writes.
	InTTY, OutTTY, ErrTTY bool
	// Dumb says that the terminal cannot take a line or the screen away.
	Dumb bool
	// Color says that colours are welcome on Out.
	Color bool
	// Width of the terminal in cells; 0 = not known, nothing is cut.
	Width int

	guard *program.Guard // lets the sequences of this program through; nil before Guard
}

// Screen is the terminal itself, for what draws all of it.
func (s *IO) Screen() io.Writer {
	if c, ok := s.Out.(*checked); ok {
		return c.screen
	}
	return s.Out
}

// Guard puts two guards before the streams: what goes to a terminal can do nothing there, and a write to Out that fails
// is remembered. The function that it gives tells of the first.
func (s *IO) Guard() (failed func() error) {
	s.guard = program.NewGuard()
	out := &checked{w: s.Out, screen: s.Out}
	if s.OutTTY {
		out.w = s.guard.Writer(s.Out)
	}

	s.Out = out
	if s.ErrTTY {
		s.Err = s.guard.Writer(s.Err)
	}

	return func() error { return out.err }
}

// checked remembers the first write that failed.
type checked struct {
	w, screen io.Writer
	err       error
}

func (c *checked) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil && c.err == nil {
		c.err = err
	}
	return n, err
}

// System is the process's own streams. lookup finds environment variables.
func System(lookup func(string) (string, bool)) *IO {
	s := &IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, InTTY: isTerminal(os.Stdin), OutTTY: isTerminal(os.Stdout), ErrTTY: isTerminal(os.Stderr)}
	none, _ := lookup("NO_COLOR")
	dumb, _ := lookup("TERM")
	s.Dumb = dumb == "dumb"
	s.Color = s.OutTTY && none == "" && dumb != "dumb"
	if s.OutTTY {
		s.Width, _, _ = term.GetSize(int(os.Stdout.Fd()))
	}

	return s
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Test gives streams to look at afterwards.
func Test(stdin string) (streams *IO, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return &IO{In: bytes.NewBufferString(stdin), Out: stdout, Err: stderr}, stdout, stderr
}

// Terminal makes s look like a terminal of 100 columns with colours.
func (s *IO) Terminal() *IO {
	s.OutTTY, s.ErrTTY, s.Color, s.Width = true, true, true, 100
	return s
}

// Style is a look of text on a terminal.
type Style string

// The styles.
const (
	Plain  Style = ""
	Bold   Style = "1"
	Faint  Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Blue   Style = "34"
	Purple Style = "35"
	Cyan   Style = "36"
)

// Paint is text in a style where colours are welcome.
func (s *IO) Paint(st Style, text string) string {
	if !s.Color || st == Plain || text == "" {
		return text
	}
	return s.guard.Sequence("\x1b["+string(st)+"m") + text + s.guard.Sequence("\x1b[0m")
}

// ClearLine is the sequence that empties the line of a terminal. It is for a stream that is a terminal alone.
func (s *IO) ClearLine() string { return s.guard.Sequence("\r\x1b[K") }

// ClearScreen is the sequence that empties the screen of a terminal. It is for a stream that is a terminal alone.
func (s *IO) ClearScreen() string { return s.guard.Sequence("\x1b[H\x1b[2J") }
