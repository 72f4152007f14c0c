package queue

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue/internal/general"
)

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"mail": "mail", "  Mail\t": "mail", "\v\fMAIL\r\n": "mail", "a": "a", "a-b_c9": "a-b_c9", "NEXT": "next",
		strings.Repeat("x", MaxNameBytes): strings.Repeat("x", MaxNameBytes),
	} {
		if got, err := QueueName(in); err != nil || got != want {
			t.Errorf("QueueName(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", " ", "1a", "-a", "_a", "a b", "a.b", "ä", "a\x00", "a\xff", "ſ", "\u212aey", "mai\u0130", "\u00a0mail", "mail\u2003", "mail\u0085", strings.Repeat("x", MaxNameBytes+1)} {
		for field, f := range map[string]func(string) (string, error){"queue": QueueName, "ticker": TickerName, "namespace": NamespaceName} {
			got, err := f(in)
			fault(t, err, KindInvalid, field)
			if got != "" {
				t.Errorf("%s name %q gave %q beside an error", field, in, got)
			}
		}
	}
	_, err := NamespaceName(" PGQUEUE ")
	fault(t, err, KindInvalid, "namespace")
	_, err = TickerName("Next")
	fault(t, err, KindInvalid, "ticker")
	if n, err := QueueName(SystemNamespace); err != nil || n != SystemNamespace {
		t.Errorf("a queue may not be named like the system's namespace: %v", err)
	}
}

// fault checks that err is of kind, and names field.
func fault(t *testing.T, err error, kind Kind, field string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != kind || e.Field != field {
		t.Errorf("error %v is not of kind %s about field %s", err, kind, field)
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"mail", " A-b ", "ſ", "K", "1", strings.Repeat("x", 64)} {
		f.Add(s)
	}
	want := regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	var pairs []string
	for c := 'A'; c <= 'Z'; c++ {
		pairs = append(pairs, string(c), string(c+'a'-'A'))
	}
	asciiLower := strings.NewReplacer(pairs...)
	f.Fuzz(func(t *testing.T, s string) {
		n, err := QueueName(s)
		if ok := want.MatchString(asciiLower.Replace(strings.Trim(s, " \t\n\v\f\r"))); ok != (err == nil) {
			t.Fatalf("QueueName(%q) = %q, %v", s, n, err)
		}
		if err != nil {
			return
		}
		if again, err := QueueName(n); err != nil || again != n {
			t.Fatalf("QueueName(%q) = %q, %v", n, again, err)
		}
	})
}

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		field string // "" = fine
	}{
		{"worker at its limit", CheckWorker(strings.Repeat("é", MaxWorkerBytes/2)), ""},
		{"worker past it", CheckWorker(strings.Repeat("x", MaxWorkerBytes+1)), "worker"},
		{"no worker", CheckWorker(""), "worker"},
		{"worker with NUL", CheckWorker("a\x00"), "worker"},
		{"worker of bad UTF-8", CheckWorker("\xff"), "worker"},
		{"no key", CheckKey(""), ""},
		{"key at its limit", CheckKey(strings.Repeat("x", MaxKeyBytes)), ""},
		{"key past it", CheckKey(strings.Repeat("x", MaxKeyBytes+1)), "key"},
		{"key with NUL", CheckKey("\x00"), "key"},
		{"no headers", CheckHeaders(nil), ""},
		{"headers at their limit", CheckHeaders(map[string]string{"k": strings.Repeat("x", MaxHeadersBytes-1)}), ""},
		{"headers past it", CheckHeaders(map[string]string{"k": strings.Repeat("x", MaxHeadersBytes)}), "headers"},
		{"header without a name", CheckHeaders(map[string]string{"": "x"}), "headers"},
		{"header with NUL", CheckHeaders(map[string]string{"k": "\x00"}), "headers"},
	} {
		if c.field == "" {
			if c.err != nil {
				t.Errorf("%s: %v", c.name, c.err)
			}
			continue
		}
		t.Run(c.name, func(t *testing.T) { fault(t, c.err, KindInvalid, c.field) })
	}
	many := map[string]string{}
	for i := range MaxHeaders {
		many[strings.Repeat("h", i+1)] = ""
	}
	if err := CheckHeaders(many); err != nil {
		t.Errorf("%d headers: %v", MaxHeaders, err)
	}
	many["one more"] = ""
	fault(t, CheckHeaders(many), KindInvalid, "headers")
}

func TestCut(t *testing.T) {
	for n, want := range []string{"", "a", "a", "aé", "aé", "aé", "aé😀"[:3], "aé😀"} {
		if n == 6 {
			want = "aé"
		}
		if got := general.TruncateText("aé😀", n); got != want {
			t.Errorf("cut to %d bytes is %q, want %q", n, got, want)
		}
	}
}
