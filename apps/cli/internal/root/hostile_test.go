package root

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// hostile is text that a terminal would act on: a title, the clipboard, C1, DEL, turned direction, no width, line ends.
const hostile = "\x1b]0;owned\x07\x1b]52;c;aGk=\x07\x1b[2J\x1b[8m\u009b2J\x7f\u202eevil\u202c\u2066x\u2069\u200b\u200d\ufeff\u2028\U000e0041\r\x08"

// hostileJSON is the same as a JSON text that keeps what JSON lets through raw.
const hostileJSON = `"\u001b]0;owned\u0007\u001b[2J\u001b[8m` + "\u009b2J\x7f\u202eevil\u202c\u2066x\u2069\u200b\u200d\ufeff\u2028\U000e0041" + `\r\b"`

var ours = regexp.MustCompile(`\x1b\[[0-9;]*m|\r?\x1b\[K|\x1b\[H\x1b\[2J`)

// harm is what a terminal would act on in text, beside what pgqueue writes itself.
func harm(text string) string {
	text = strings.ReplaceAll(text, "\x1b[8m", "\x00") // hides what follows
	for _, r := range ours.ReplaceAllString(text, "") {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
			return strings.ToUpper(string(r)) + " in " + text
		}
	}
	return ""
}

func TestForeignTextOnATerminalCanDoNothing(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "q", "--retries", "1")
	s.must("create-ticker", "t", "--period", "1h", "--payload", hostileJSON)
	worker := strings.NewReplacer("\x00", "").Replace(hostile)
	create := []string{"create-task", "q", "--payload", hostileJSON, "--key", hostile, "--header", "x=" + hostile}
	if code, out, errOut := s.run(true, "", create...); code != 0 || harm(out+errOut) != "" {
		t.Fatalf("%d %q", code, out+errOut)
	}
	s.must("create-task", "q", "--payload", hostileJSON, "--key", "second")
	if code, out, errOut := s.run(true, "", "retain-task", "q", "--worker", worker); code != 0 || harm(out+errOut) != "" {
		t.Fatalf("%d %q", code, out+errOut)
	}
	if code, out, errOut := s.run(true, "", "complete-task", "1", "--error", hostileJSON); code != 0 || harm(out+errOut) != "" {
		t.Fatalf("%d %q", code, out+errOut)
	}
	s.must("retain-task", "q", "--worker", worker)
	shown := 0
	for _, line := range []string{
		"tasks", "task 1", "task 2", "workers", "tickers", "ticker t", "ticks t", "queues", "stats", "events --follow=false", "export",
	} {
		for _, format := range [][]string{nil, {"-o", "table"}, {"-o", "wide"}, {"-o", "json"}, {"-o", "ndjson"}, {"-o", "yaml"}, {"--jq", "."}, {"--jq", ".. | strings"}, {"--jq", "tojson"}, {"--jq", "[.. | strings] | @tsv"}} {
			if strings.HasPrefix(line, "export") && len(format) > 0 && format[0] == "--jq" {
				continue
			}
			args := append(strings.Fields(line), format...)
			code, out, errOut := s.run(true, "", args...)
			if found := harm(out + errOut); code != 0 || found != "" {
				t.Errorf("%q: %d %q", args, code, found)
			}
			if strings.Contains(out, "evil") {
				shown++
			}
		}
	}
	if shown < 30 {
		t.Errorf("the text was shown in %d outputs alone", shown)
	}
	t.Run("in errors", func(t *testing.T) {
		for _, args := range [][]string{
			{"queue", hostile},
			{"task", hostile},
			{hostile},
			{"tasks", "--status", hostile},
			{"tasks", "--" + strings.ReplaceAll(hostile, "=", "")},
			{"create-task", "q", "--payload", hostile},
			{"create-task", hostile},
			{"queues", "--url", "http://127.0.0.1:1/" + hostile},
			{"import", hostile},
			{"queues", "--context", hostile},
			{"create-task", "q", "--payload", `"x"`, "--key", hostile},
			{"delete-task", "1", "999"},
			{"create-task", "q", "--payload", "1", "--jq", hostile},
		} {
			code, out, errOut := s.run(true, "", args...)
			if found := harm(out + errOut); code == 0 || found != "" {
				t.Errorf("%q: %d %q", args, code, found)
			}
		}
		line := `{"queue":"q","payload":1,"` + strings.Trim(hostileJSON, `"`) + `":1}` + "\n"
		if code, out, errOut := s.run(true, line, "import", "-", "--on-error", "skip"); code == 0 || harm(out+errOut) != "" {
			t.Errorf("%q", out+errOut)
		}
	})
	t.Run("colours and moves of the cursor, which pgqueue writes itself, are foreign in a text", func(t *testing.T) {
		const foreign = "\x1b[31mred\x1b[0m\r\x1b[Kgone\x1b[H\x1b[2J"
		s.must("create-task", "q", "--payload", `{"text":"\u001b[31mred\u001b[0m\r\u001b[Kgone\u001b[H\u001b[2J"}`, "--key", "colours")
		for _, args := range [][]string{
			{"tasks", "--jq", `.body[].payload.text? // empty`},
			{"tasks", "--jq", `.body[].payload | tojson`},
			{"tasks", "--jq", `.body[] | error(.payload.text? // "none")`},
			{"tasks", "-o", "wide"},
			{"tasks", "-o", "json"},
			{"tasks", "-o", "yaml"},
			{"queue", foreign},
			{"import", foreign},
		} {
			_, out, errOut := s.run(true, "", args...)
			if text := out + errOut; strings.Contains(text, "\x1b[31mred") || strings.Contains(text, "\x1b[Kgone") || strings.Contains(text, "\x1b[2J") {
				t.Errorf("%q: %q", args, text)
			}
		}
		if _, out, _ := s.run(true, "", "tasks"); !strings.Contains(out, "\x1b[") {
			t.Errorf("the program's own colours are lost: %q", out)
		}
	})
	t.Run("in a pipe it is as it was", func(t *testing.T) {
		if out := s.must("task", "2", "--jq", ".payload"); !strings.Contains(out, "\x1b]0;owned\x07") || !strings.Contains(out, "\u202eevil") {
			t.Errorf("%q", out)
		}
		if out := s.must("task", "2"); !strings.Contains(out, hostileJSON) {
			t.Errorf("%q", out)
		}
	})
}

func TestCleanIsOneLine(t *testing.T) {
	if got := program.Clean("a\nb\x9b" + hostile); harm(got) != "" || strings.ContainsAny(got, "\n\t\r") || !strings.HasPrefix(got, "a b") {
		t.Errorf("%q", got)
	}
	if got := program.Clean("ünï 日本 🙂 e\u0301"); got != "ünï 日本 🙂 e\u0301" {
		t.Errorf("%q", got)
	}
}
