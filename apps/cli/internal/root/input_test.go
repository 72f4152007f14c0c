package root

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// utf16Of is s in UTF-16, with a byte order mark or without.
func utf16Of(s string, order binary.AppendByteOrder, mark bool) string {
	var b []byte
	if mark {
		b = order.AppendUint16(b, 0xFEFF)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

func TestEncodingsOfFilesAndStdin(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	file := filepath.Join(t.TempDir(), "in.json")
	const line = `{"queue":"mail","payload":{"bom":1}}`
	t.Run("a byte order mark is left out", func(t *testing.T) {
		with := "\xef\xbb\xbf" + line + "\n"
		if err := os.WriteFile(file, []byte(with), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"import", "-"}, {"import", file}, {"import", "-", "--on-error", "skip"}} {
			if code, out, errOut := s.run(false, with, args...); code != 0 || !strings.Contains(out, `"created":1`) {
				t.Error(args, code, out, errOut)
			}
		}
		for _, args := range [][]string{{"--payload", "-"}, {"--payload", "@" + file}} {
			if code, out, errOut := s.run(false, with, append([]string{"create-task", "mail", "--jq", ".payload.queue"}, args...)...); code != 0 || out != "mail\n" {
				t.Error(args, code, out, errOut)
			}
		}
	})
	for name, text := range map[string]string{
		"UTF-16": utf16Of(line, binary.LittleEndian, true), "UTF-16 BE": utf16Of(line, binary.BigEndian, true),
		"UTF-16LE without mark": utf16Of(line, binary.LittleEndian, false), "UTF-16BE without mark": utf16Of(line, binary.BigEndian, false),
		"gzip": "\x1f\x8b\x08\x00",
	} {
		t.Run(name+" is named with its remedy, and nothing is made", func(t *testing.T) {
			word, _, _ := strings.Cut(strings.ReplaceAll(name, "LE", ""), " ")
			word = strings.ReplaceAll(word, "BE", "")
			before := s.must("tasks", "--jq", ".count")
			for _, args := range [][]string{{"import", "-"}, {"import", "-", "--on-error", "skip"}, {"create-task", "mail", "--payload", "-"}, {"create-ticker", "t", "--period", "1h", "--payload", "-"}} {
				code, _, errOut := s.run(false, text, args...)
				if code != program.ExitUsage || !strings.Contains(errOut, word) || !strings.Contains(errOut, "; ") || strings.Contains(errOut, "goes on where") {
					t.Error(args, code, errOut)
				}
			}
			if after := s.must("tasks", "--jq", ".count"); after != before {
				t.Error(before, after)
			}
		})
	}
}

func TestQuotesThatAShellTook(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	s.must("create-task", "mail")
	for _, bad := range []string{`{to:ann,n:1}`, `'{"to":1}'`, `{\"to\":1}`, `{"to":}`} {
		for _, args := range [][]string{
			{"create-task", "mail", "--payload"},
			{"complete-task", "1", "--result"},
			{"complete-task", "1", "--error"},
			{"heartbeat-task", "1", "--token", "1", "--progress"},
			{"create-ticker", "t", "--period", "1h", "--payload"},
		} {
			code, out, errOut := s.run(false, "", append(args, bad)...)
			if code != program.ExitUsage || out != "" || !strings.Contains(errOut, "@file and - take the JSON as it is") {
				t.Error(args, bad, code, out, errOut)
			}
		}
	}
	for _, args := range [][]string{
		{"create-task", "mail", "--payload", "{to:", "ann", "b}"}, {"complete-task", "1", "--error", `{"msg":"no`, `route"}`},
	} {
		if code, _, errOut := s.run(false, "", args...); code != program.ExitUsage || !strings.Contains(errOut, "split the value of --") || strings.Contains(errOut, "did you mean") {
			t.Error(args, code, errOut)
		}
	}
}

func TestAnImportIsAsStrictAsREST(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	for line, says := range map[string]string{
		`{"queue":"mail","payload":{},"delay_at":"2030-01-01T00:00:00Z"}`: "delay_at: must be a field of this object, got an unknown field",
		`{"queue":"mail","payloads":{"a":1}}`:                             "payloads: must be a field of this object, got an unknown field",
		`{"queue":"mail","body":{"a":1}}`:                                 "body: must be a field of this object",
		`{"queue":"mail","ttl":"1h"}`:                                     "ttl: must be a field of this object",
		`{"queue":"mail","payload":1,"payload":2}`:                        "payload: must not be there twice",
		`{"queue":"mail","priority":40000}`:                               "priority: must be an integer from -32768 to 32767",
		`{"queue":"mail","delayed_at":"soon"}`:                            "delayed_at: must be a time",
		`{"queue":"mail","delay":"1 fortnight"}`:                          "delay",
		`{"queue":"mail"} {"queue":"mail"}`:                               "more behind it",
		`{"queue":"mail","payload":"\ud800"}`:                             "surrogate",
		"{\"queue\":\"mail\",\"payload\":\"\xff\"}":                       "UTF-8",
	} {
		code, out, errOut := s.run(false, line+"\n", "import", "-")
		if code != program.ExitUsage || !strings.Contains(errOut, "line 1: ") || !strings.Contains(errOut, says) || !strings.Contains(out, `"created":0`) {
			t.Errorf("%s: %d %s%s", line, code, out, errOut)
		}
	}
	t.Run("what export writes is taken", func(t *testing.T) {
		const line = `{"id":1,"payload":{"a":1},"worker":"w","namespace":"x","queue":"mail","created_at":"2026-01-02T15:04:05Z","started_at":"2026-01-02T15:04:05Z",` +
			`"dies_at":"2026-01-02T15:04:05Z","delayed_at":"2026-01-02T15:04:05Z","retries":1,"result":{"x":1},"status":"new","priority":3,"attempt":1,` +
			`"key":"k","headers":{"a":"b"},"errors":[],"cancel_requested":false,"progress":1,"replayed":false}`
		if _, out, errOut := s.run(false, line+"\n", "import", "-"); !strings.Contains(out, `"created":1`) {
			t.Error(out, errOut)
		}
	})
}
