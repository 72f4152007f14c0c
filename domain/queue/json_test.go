package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

var goodJSON = []string{
	`{}`, `[]`, `null`, `true`, `0`, `-0`, `1E400`, `123456789012345678901234567890`, `"\u0000"`, `"😀"`, `"\ud83d\ude00"`,
	`"\\ud800"`, `{"a":1,"a":2}`, ` [ 1 ] `, "\"\u2028\"", `"\"{[["`, `"\\"`,
	strings.Repeat("[", MaxJSONDepth) + strings.Repeat("]", MaxJSONDepth),
	`"` + strings.Repeat("[", 1000) + `"`,
}

var badJSON = []string{
	``, ` `, `{`, `}`, `[1,]`, `{"a"}`, `1 2`, `nul`, `01`, `'a'`, `NaN`, `"\x"`, "\"\n\"", "\"\xff\"", "\xef\xbb\xbf{}",
	`"\ud800"`, `"\ude00"`, `"\ud800\ud800"`, `"\ude00\ud800"`, `"\ud800x"`, `"\ud800\n"`, `"\ud83d`, `"\ud83d\ude0"`, `"\uD8"`,
	strings.Repeat("[", MaxJSONDepth+1) + strings.Repeat("]", MaxJSONDepth+1),
	strings.Repeat(`{"a":`, 1_000_000),
}

func TestCheckJSON(t *testing.T) {
	for _, s := range goodJSON {
		if err := CheckJSON("payload", []byte(s), 1<<20); err != nil {
			t.Errorf("%.60q is refused: %v", s, err)
		}
	}
	for _, s := range badJSON {
		fault(t, CheckJSON("payload", []byte(s), 1<<30), KindInvalid, "payload")
	}
	at := []byte(`"` + strings.Repeat("x", 98) + `"`)
	if err := CheckJSON("payload", at, 100); err != nil {
		t.Error(err)
	}
	fault(t, CheckJSON("payload", at, 99), KindTooLarge, "payload")
}

func FuzzCheckJSON(f *testing.F) {
	for _, s := range append(goodJSON, badJSON[:len(badJSON)-1]...) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := CheckJSON("payload", b, 1<<16)
		if err != nil {
			if k := KindOf(err); k != KindInvalid && k != KindTooLarge {
				t.Fatalf("%q is refused with %v", b, err)
			}
		} else {
			var compact bytes.Buffer
			if !json.Valid(b) || !utf8.Valid(b) || json.Compact(&compact, b) != nil {
				t.Fatalf("%q is let through", b)
			}
			// No string of it, decoded, may have lost anything: a lone surrogate becomes U+FFFD.
			if !bytes.Contains(b, []byte("\uFFFD")) && !bytes.Contains(bytes.ToLower(b), []byte(`\ufffd`)) {
				var v any
				dec := json.NewDecoder(bytes.NewReader(b))
				dec.UseNumber()
				if err := dec.Decode(&v); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(fmt.Sprint(v), "\uFFFD") {
					t.Fatalf("%q has a lone surrogate and is let through", b)
				}
			}
		}
		clean := CleanJSON(b, 1<<12)
		if len(b) == 0 {
			if clean != nil {
				t.Fatalf("nothing became %q", clean)
			}
			return
		}
		if err := CheckJSON("result", clean, 1<<12); err != nil {
			t.Fatalf("%q was cleaned to %q: %v", b, clean, err)
		}
		if err == nil && len(b) <= 1<<12 && !bytes.Equal(clean, b) {
			t.Fatalf("%q was changed to %q", b, clean)
		}
	})
}

func TestCleanJSON(t *testing.T) {
	for _, s := range append(badJSON, `"`+strings.Repeat("\u0001é", 1<<20)+`"`, strings.Repeat("\x01", 1<<20)) {
		if s == "" {
			continue
		}
		for _, limit := range []int{1 << 10, MaxErrorBytes, DefaultMaxPayloadBytes} {
			if err := CheckJSON("result", CleanJSON([]byte(s), limit), limit); err != nil {
				t.Errorf("%.60q cleaned for %d bytes: %v", s, limit, err)
			}
		}
	}
	if got := string(CleanJSON([]byte(`{"a":"\ud800","n":12345678901234567890}`), 1000)); got != `{"a":"`+"\uFFFD"+`","n":12345678901234567890}` {
		t.Errorf("a lone surrogate is cleaned to %s", got)
	}
	if got := string(CleanJSON([]byte("no such host"), 1000)); got != `{"text":"no such host"}` {
		t.Errorf("a text is cleaned to %s", got)
	}
}

func TestErrorJSON(t *testing.T) {
	for in, want := range map[string]string{"boom": `{"error":"boom"}`, "": `{"error":""}`, "a\xffb": `{"error":"a` + "\uFFFD" + `b"}`} {
		if got := string(ErrorJSON(in)); got != want {
			t.Errorf("ErrorJSON(%q) = %s, want %s", in, got, want)
		}
	}
	if err := CheckJSON("result", ErrorJSON(strings.Repeat("\x01", 1<<20)), DefaultMaxPayloadBytes); err != nil {
		t.Error(err)
	}
}

func TestMarshal(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{nil, ""},
		{json.RawMessage(`{"a": 1}`), `{"a": 1}`},
		{[]byte(`[1]`), `[1]`},
		{errors.New("boom"), `{"error":"boom"}`},
		{fmt.Errorf("outer: %w", errors.New("inner")), `{"error":"outer: inner"}`},
		{map[string]int{"a": 1}, `{"a":1}`},
		{"text", `"text"`},
	} {
		if got, err := Marshal(c.in); err != nil || string(got) != c.want {
			t.Errorf("Marshal(%v) = %s, %v; want %s", c.in, got, err, c.want)
		}
	}
	_, err := Marshal(make(chan int))
	fault(t, err, KindInvalid, "payload")
}
