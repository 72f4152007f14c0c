// Package iostreams holds the streams of a command and the properties of its terminal.
package iostreams

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// IO holds the standard streams of a command.
type IO struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	// OutTTY, ErrTTY and InTTY report whether the stream is a terminal.
	InTTY, OutTTY, ErrTTY bool
	// Dumb reports that the terminal cannot clear a line or the screen.
	Dumb bool
	// Color reports that Out takes colours.
	Color bool
	// Width of the terminal in cells; 0 = not known, nothing is cut.
	Width int

	guard *program.Guard // lets the sequences of this program through; nil before Guard
}

// Screen is the terminal itself, for a full-screen view.
func (s *IO) Screen() io.Writer {
	if c, ok := s.Out.(*checked); ok {
		return c.screen
	}
	return s.Out
}

// Guard puts two guards before the streams: text for a terminal loses its control sequences, and the first failed write
// to Out is remembered. The returned function returns that error.
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

// Style is the style of text on a terminal.
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

// Paint returns text in a style where Out takes colours.
func (s *IO) Paint(st Style, text string) string {
	if !s.Color || st == Plain || text == "" {
		return text
	}
	return s.guard.Sequence("\x1b["+string(st)+"m") + text + s.guard.Sequence("\x1b[0m")
}

// ClearLine returns the sequence that clears a line of a terminal. Write it to terminals alone.
func (s *IO) ClearLine() string { return s.guard.Sequence("\r\x1b[K") }

// ClearScreen returns the sequence that clears the screen of a terminal. Write it to terminals alone.
func (s *IO) ClearScreen() string { return s.guard.Sequence("\x1b[H\x1b[2J") }
