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
		"\x1b[31mred\x1b[0m \r\x1b[Kbar\x1b[K":     "\x1b[31mred\x1b[0m \r\x1b[Kbar\x1b[K",
		"\x1b[H\x1b[2J":                            "\x1b[H\x1b[2J",
		"\x1b]0;title\x07":                         `\u001b]0;title\u0007`,
		"\x1b[2J":                                  `\u001b[2J`,
		"over\rwritten":                            `over\u000dwritten`,
		"\u009b2J\x7f\u202e\u200b\u2028\U000e0041": `\u009b2J\u007f\u202e\u200b\u2028\udb40\udc41`,
		"\x9b2J": "\ufffd2J",
	} {
		var whole, pieces bytes.Buffer
		n, err := program.TerminalWriter(&whole).Write([]byte(in))
		if err != nil || n != len(in) || whole.String() != want {
			t.Errorf("%q: %d %v %q, want %q", in, n, err, whole.String(), want)
		}
		if strings.ContainsAny(in, "\x1b\r") {
			continue // sequences of ours are written whole
		}
		w := program.TerminalWriter(&pieces)
		for i := range len(in) {
			if _, err := w.Write([]byte{in[i]}); err != nil {
				t.Fatal(err)
			}
		}
		if pieces.String() != want {
			t.Errorf("%q in pieces: %q, want %q", in, pieces.String(), want)
		}
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
