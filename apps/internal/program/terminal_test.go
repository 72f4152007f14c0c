package program_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

func TestTerminalWriter(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünï 🙂\tx\r\n":                       "plain ünï 🙂\tx\r\n",
		"\x1b[31mred\x1b[0m \r\x1b[Kbar\x1b[K":     `\u001b[31mred\u001b[0m \u000d\u001b[Kbar\u001b[K`,
		"\x1b[H\x1b[2J":                            `\u001b[H\u001b[2J`,
		"\x1b]0;title\x07":                         `\u001b]0;title\u0007`,
		"\x00key\x1b[31m\x00":                      `\u0000key\u001b[31m\u0000`,
		"\x00\x1b[31m\x00":                         `\u0000\u001b[31m\u0000`,
		"over\rwritten":                            `over\u000dwritten`,
		"\u009b2J\x7f\u202e\u200b\u2028\U000e0041": `\u009b2J\u007f\u202e\u200b\u2028\udb40\udc41`,
		"\x9b2J": "\ufffd2J",
	} {
		for name, guard := range map[string]*program.Guard{"with own sequences": program.NewGuard(), "without": nil} {
			var whole, pieces bytes.Buffer
			n, err := guard.Writer(&whole).Write([]byte(in))
			if err != nil || n != len(in) || whole.String() != want {
				t.Errorf("%s: %q: %d %v %q, want %q", name, in, n, err, whole.String(), want)
			}
			if strings.Contains(in, "\r\n") {
				continue // it is one sequence when it comes in one piece
			}
			w := guard.Writer(&pieces)
			for i := range len(in) {
				if _, err := w.Write([]byte{in[i]}); err != nil {
					t.Fatal(err)
				}
			}
			if pieces.String() != want {
				t.Errorf("%s: %q in pieces: %q, want %q", name, in, pieces.String(), want)
			}
		}
	}
}

func TestOnlyOwnSequencesPassTheGuard(t *testing.T) {
	guard, other := program.NewGuard(), program.NewGuard()
	var out bytes.Buffer
	text := guard.Sequence("\r\x1b[K") + "a" + other.Sequence("\x1b[2J") + guard.Sequence("\x1b[0m")
	if _, err := guard.Writer(&out).Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	begin, end := "\r\x1b[Ka\\u0000", "\\u001b[2J\\u0000\x1b[0m"
	if got := out.String(); !strings.HasPrefix(got, begin) || !strings.HasSuffix(got, end) {
		t.Errorf("%q, want %q … %q", got, begin, end)
	}
}

func TestTheLogOnATerminalIsHarmless(t *testing.T) {
	for _, format := range []string{"text", "json", "auto"} {
		var out bytes.Buffer
		c := program.LogConfig{LevelName: "info", Format: format}
		log, err := c.Logger(&out, true)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("m\x1b[2J\u202e", "worker", "\x1b]0;x\x07\u009b\u202e\u200b")
		if strings.ContainsAny(out.String(), "\x1b\x07\u009b\u202e\u200b") {
			t.Errorf("%s: %q", format, out.String())
		}
	}
}
