package queue

import (
	"encoding/json"
	"strings"
	"testing"
)

// validJSONTexts are texts at the edges of the grammar.
var validJSONTexts = []string{
	``, ` `, `{}`, ` { } `, `[]`, `[ ]`, `null`, `nul`, `nulll`, `true`, `false`, `0`, `-0`, `00`, `01`, `-`, `-a`, `1.`, `1.5`, `.5`, `1e`, `1e5`, `1E+5`, `1e-`, `1.5e-05`,
	`""`, `"`, `"a`, `"a"b`, `"\"`, `"\""`, `"\u00e9"`, `"\u00"`, `"\u00eg"`, `"\x"`, "\"a\nb\"", "\"12345678\x1f\"", "\"1234567\x1f8\"", "\"\x7f\xff\"", `"\\"`, `"a\\\"b"`,
	`{"a":1}`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":1,"b":{"c":[1,2,{"d":null}]}}`, `{,}`, `{"a":1`, `{"a"`, `{`, `{"a":1}}`,
	`[1,2]`, `[1,]`, `[,1]`, `[1 2]`, `[`, `[1`, `[1,`, `]`, `[[[[]]]]`, "\ufeff{}", "1 2", "{}\x00", "\t\r\n1\n",
}

// TestIsValidJSON: the check and that of the standard library agree.
func TestIsValidJSON(t *testing.T) {
	for _, text := range validJSONTexts {
		if got := isValidJSON([]byte(text)); got != json.Valid([]byte(text)) {
			t.Errorf("%q: got %v", text, got)
		}
	}
	long := `"` + strings.Repeat("a", 1000) + `"`
	for i := range long {
		for _, c := range []byte{0, 31, 32, '"', '\\', 127, 128, 255} {
			text := []byte(long)
			text[i] = c
			if got := isValidJSON(text); got != json.Valid(text) {
				t.Errorf("byte %d is %q: got %v", i, c, got)
			}
		}
	}
}

func FuzzIsValidJSON(f *testing.F) {
	for _, text := range validJSONTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if exceedsDepth([]byte(text)) {
			return
		}
		if got := isValidJSON([]byte(text)); got != json.Valid([]byte(text)) {
			t.Fatalf("%q: got %v", text, got)
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	for name, text := range map[string]string{
		"long text": `"` + strings.Repeat("a", 1022) + `"`,
		"members":   `{"a":1` + strings.Repeat(`,"name":"some value","n":17`, 37) + `}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if err := CheckJSON("payload", []byte(text), 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
