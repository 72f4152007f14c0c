package output

import (
	"bytes"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "-", 300 * time.Microsecond: "300µs", 450 * time.Millisecond: "450ms", time.Second: "1s", 90 * time.Second: "1m30s",
		time.Hour: "1h", 26*time.Hour + 5*time.Minute: "1d2h", 7 * 24 * time.Hour: "7d", -time.Minute: "-1m", 24*time.Hour + time.Minute: "1d",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for in, want := range map[time.Time]string{
		{}: "-", now: "now", now.Add(-90 * time.Second): "1m30s ago", now.Add(time.Hour): "in 1h",
	} {
		if got := Ago(in, now); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünï 漢字 🚚": "plain ünï 漢字 🚚", "a\nb\tc": "a b c", "\x1b[2J": "\uFFFD[2J", "\u009b2J\x7f": "\uFFFD2J\uFFFD",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestYAML(t *testing.T) {
	var b bytes.Buffer
	in := `{"z":1,"a":[true,null,"no","12","",1e400,123456789012345678901234567890,{"k":"x: y"}],"t":"a\nb","s":"\ud83d\ude00"}`
	if err := writeYAML(&b, []byte(in)); err != nil {
		t.Fatal(err)
	}
	want := `z: 1
a:
  - true
  - null
  - "no"
  - "12"
  - ""
  - 1e400
  - 123456789012345678901234567890
  - k: 'x: y'
t: |-
  a
  b
s: "\U0001F600"
`
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", &b, want)
	}
}
