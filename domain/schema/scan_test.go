package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

func TestScanSizes(t *testing.T) {
	for _, c := range []struct {
		text string
		want schema.Stats
	}{
		{`1`, schema.Stats{Nodes: 1}},
		{`"a,b{[\"]"`, schema.Stats{Nodes: 1}},
		{`{}`, schema.Stats{Nodes: 2, Objects: 1, Depth: 1}},
		{`[1,[2,3]]`, schema.Stats{Nodes: 5, Depth: 2}},
		{`{"a":{"b":[1,2]},"c":null}`, schema.Stats{Nodes: 6, Objects: 2, Depth: 3}},
	} {
		if got, err := schema.Scan("payload", []byte(c.text)); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.text, got, err, c.want)
		}
	}
}

func TestScanNumbers(t *testing.T) {
	digits := strings.Repeat("7", schema.MaxDigits)
	for _, number := range []string{"0", "-1.5", digits, "-" + digits, digits[:200] + "." + digits[200:], "1e400", "1E-400", "1e+0400", "-1.5e-0000000400"} {
		if _, err := schema.Scan("payload", []byte("["+number+"]")); err != nil {
			t.Errorf("%.30s: %v", number, err)
		}
	}
	for _, number := range []string{digits + "7", "0." + digits, "1e401", "1e-401", "1e1000001", "1e99999999999999999999999", "-1E+999999"} {
		_, err := schema.Scan("payload", []byte(`{"a":["x",`+number+`]}`))
		if queue.KindOf(err) != queue.KindInvalid || !strings.HasPrefix(err.Error(), "payload: must have numbers of at most 400 digits") || len(err.Error()) > 300 {
			t.Errorf("%.30s: got %v", number, err)
		}
	}
	if _, err := schema.Scan("payload", []byte(`"1e1000001"`)); err != nil {
		t.Errorf("a text: %v", err)
	}
}

func TestScanDepth(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if _, err := schema.Scan("payload", nested(queue.MaxJSONDepth)); err != nil {
		t.Error(err)
	}
	if _, err := schema.Scan("payload", nested(queue.MaxJSONDepth+1)); queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("got %v", err)
	}
}

// FuzzScan: any bytes give a result, and numbers within the limits decode.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e3,"x\"y"]}`, `1e401`, `"`, `\`, `-`, `[[[`, "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		stats, err := schema.Scan("payload", []byte(text))
		if stats.Nodes < 1 || stats.Nodes > len(text)+1 || stats.Objects > stats.Nodes || err != nil && queue.KindOf(err) != queue.KindInvalid {
			t.Fatalf("%q: got %+v, %v", text, stats, err)
		}
		if err == nil && json.Valid([]byte(text)) && strings.ContainsAny(text, "eE") {
			var v any
			if err := json.Unmarshal([]byte(text), &v); err != nil && !strings.Contains(err.Error(), "float64") {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	text := []byte("[" + strings.Repeat(`{"a":17,"b":"some text"},`, 10_000) + "1]")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := schema.Scan("payload", text); err != nil {
			b.Fatal(err)
		}
	}
}
