package queue_test

import (
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestFingerprintGolden pins the rules of this version. A change of a row needs another FingerprintVersion.
func TestFingerprintGolden(t *testing.T) {
	if queue.FingerprintVersion != 1 {
		t.Fatal("write the table anew for this version")
	}
	for _, c := range []struct{ err, id, kind, message string }{
		{`{"error":"no route to host"}`, "afbf484ef513f08d", "", "no route to host"},
		{`"no route to host"`, "afbf484ef513f08d", "", "no route to host"},
		{`{"type":"TimeoutError","message":"no answer within 30s"}`, "f70790ee0961a3d6", "TimeoutError", "no answer within <duration>"},
		{`{"code":503,"error":"busy"}`, "d69a0123129e465c", "503", "busy"},
		{`{"code":404,"error":"busy"}`, "a80ce991f3dfd756", "404", "busy"},
		{`{"error":{"type":"Refused","message":"user 17 is unknown"}}`, "0e72a4a258850fab", "Refused", "user <n> is unknown"},
		{`{"error":"dial tcp 10.0.0.7:5432: connect: connection refused"}`, "15da1306bc6c7717", "", "dial tcp <addr>: connect: connection refused"},
		{`{"error":"dial tcp [fe80::1]:80: i/o timeout"}`, "c6d6d24f8f7abc92", "", "dial tcp <addr>: i/o timeout"},
		{`{"error":"GET https://api.example.com/v1/user/17?q=a: 500"}`, "27d63e5905d811b2", "", "GET <url>: <n>"},
		{`{"error":"mailbox of ann.b+c@example.co.uk is full"}`, "fee921e30c5cc267", "", "mailbox of <mail> is full"},
		{`{"error":"order 0b5c2f0e-9b1d-4c53-8a4e-7f7f7f7f7f7f is closed"}`, "e31eeacc378a72f6", "", "order <uuid> is closed"},
		{`{"error":"commit 9fceb02d0ae598e95dc970b74767f19372d61af8 is gone"}`, "246bf9966133c226", "", "commit <hex> is gone"},
		{`{"error":"object cus_9s6XKzkNRiz8i3 is gone"}`, "e7f39ba8bff2df36", "", "object <id> is gone"},
		{`{"error":"at 2026-01-02T15:04:05.123Z, since 2026-01-02 15:04:05"}`, "399c96b1926be146", "", "at <time>, since <time>"},
		{`{"error":"open /var/lib/app/data-17.json: no such file"}`, "df5a2065775f45dc", "", "open <path>: no such file"},
		{`{"error":"open C:\\data\\x.txt failed"}`, "8ea45dfb4ea8bac9", "", "open <path> failed"},
		{`{"error":"panic at 0x7f3a of frame 3"}`, "0fcd97dcf2e30c9a", "", "panic at <hex> of frame <n>"},
		{`{"error":"got \"abc\", want \"def\""}`, "6915790d2404117e", "", `got "<text>", want "<text>"`},
		{`{"error":"got 'a text that a caller has sent' as name"}`, "52344e3e7bc92bb0", "", "got '<text>' as name"},
		{`{"error":"can't reach it, won't try it again for 2h30m"}`, "363e03804562bb7e", "", "can't reach it, won't try it again for <duration>"},
		{`{"error":"took 1.5e3 of 1,000.25 units"}`, "dd2b569d542b65da", "", "took <n> of <n> units"},
		{`{"error":"  two\n\tlines  "}`, "2d64703382e83cdb", "", "two lines"},
		{`{"error":"lease expired"}`, "c2e7cfefa5a83f8e", "", "lease expired"},
		{`{"a":17,"b":[1,2]}`, "ab8adc7939aa6359", "", `{"a":<n>,"b":[<n>]}`},
		{`17`, "4ee7247392428db9", "", "<n>"},
		{`null`, "04f636cf080647e1", "", ""},
		{``, "04f636cf080647e1", "", ""},
		{`{"error":null}`, "131e856cce3c9270", "", `{"error":null}`},
		{`not JSON 17`, "dea11672289f270b", "", "not JSON <n>"},
		{`{"error":"Zugriff verweigert für Nutzer 9"}`, "13e20d51564a2667", "", "Zugriff verweigert für Nutzer <n>"},
	} {
		f := queue.FingerprintOf(json.RawMessage(c.err))
		if f.ID != c.id || f.Kind != c.kind || f.Message != c.message {
			t.Errorf("%s:\ngot  %q, %q, %q\nwant %q, %q, %q", c.err, f.ID, f.Kind, f.Message, c.id, c.kind, c.message)
		}
	}
}

// TestNamedFingerprint: the fingerprint that a worker gives decides alone, and the text of the error stays for display.
func TestNamedFingerprint(t *testing.T) {
	plain := queue.FingerprintOf(queue.ErrorJSON("user 17 is unknown"))
	other := queue.FingerprintOf(queue.ErrorJSON("no route"))
	one, err := plain.WithName("unknown user")
	if err != nil {
		t.Fatal(err)
	}
	two, err := other.WithName("unknown user")
	if err != nil {
		t.Fatal(err)
	}

	same := queue.FingerprintOf(queue.ErrorJSON("unknown user"))
	if one.ID != two.ID || one.ID == plain.ID || one.ID == same.ID || one.Message != plain.Message {
		t.Errorf("got %+v and %+v, without a name %+v and %+v", one, two, plain, same)
	}
	if one.ID != "a43359ccacdf69a1" {
		t.Errorf("got %s: write this test anew for another version", one.ID)
	}

	if unnamed, err := plain.WithName(""); err != nil || unnamed != plain {
		t.Errorf("got %+v, %v", unnamed, err)
	}
	if _, err := plain.WithName(strings.Repeat("x", queue.MaxFingerprintBytes)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{strings.Repeat("x", queue.MaxFingerprintBytes+1), "a\x00", "\xff"} {
		if _, err := plain.WithName(name); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%.20q: got %v", name, err)
		}
	}
}

// TestFingerprintOfKind: the kind that a worker reports counts instead of the one in the error.
func TestFingerprintOfKind(t *testing.T) {
	b := json.RawMessage(`{"kind":"inner","error":"x"}`)
	if f := queue.FingerprintOfKind("quarantined", b); f.Kind != "quarantined" || f.ID == queue.FingerprintOf(b).ID {
		t.Errorf("got %+v", f)
	}
	if f := queue.FingerprintOfKind("", b); f != queue.FingerprintOf(b) || f.Kind != "inner" {
		t.Errorf("got %+v", f)
	}
	if f := queue.FingerprintOfKind(strings.Repeat("é", 100)+"\xff", nil); len(f.Kind) != 64 {
		t.Errorf("got %q", f.Kind)
	}
	// Lengths keep kind and message apart.
	if queue.FingerprintOfKind("a b", queue.ErrorJSON("c")).ID == queue.FingerprintOfKind("a", queue.ErrorJSON("b c")).ID {
		t.Error("kind and message run into each other")
	}
}

// TestFingerprintHash: the number of a row and the ID of an answer are one another's form.
func TestFingerprintHash(t *testing.T) {
	for _, hash := range []int64{1, -1, math.MinInt64, math.MaxInt64} {
		if got, err := queue.ParseFingerprint(queue.FormatFingerprint(hash)); err != nil || got != hash {
			t.Errorf("%d: got %d, %v", hash, got, err)
		}
	}
	f := queue.FingerprintOf(queue.ErrorJSON("no route to host"))
	if queue.FormatFingerprint(f.Hash()) != f.ID {
		t.Errorf("got %d of %s", f.Hash(), f.ID)
	}
	for _, id := range []string{"", "1", "+123456789abcdef", "0x3456789abcdef0", "123456789abcdefg", "123456789abcdef01"} {
		if _, err := queue.ParseFingerprint(id); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%q: got %v", id, err)
		}
	}
}

var fingerprintForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// FuzzFingerprint: each input has a fingerprint of the right form, and other digits in a message do not change it.
func FuzzFingerprint(f *testing.F) {
	for _, seed := range []string{
		"", "no route to host", "user 17", "2026-01-02 15:04:05", "10.0.0.7:5432", "0b5c2f0e-9b1d-4c53-8a4e-7f7f7f7f7f7f",
		"a@b.c1 /x/y1/z 1.5s", `"a long text in quotes, 24 bytes" and 'short'`, "\xff\x00", "0x1f [::1]:80 1e5 9s6XKzkNRiz8i3", strings.Repeat("1", 600),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		plain := queue.FingerprintOf(json.RawMessage(text))
		if !fingerprintForm.MatchString(plain.ID) || len(plain.Kind) > 64 || len(plain.Message) > 512 || plain.Hash() == 0 {
			t.Fatalf("%q: %+v", text, plain)
		}
		if again := queue.FingerprintOf(json.RawMessage(text)); again != plain {
			t.Fatalf("%q: %+v, and then %+v", text, plain, again)
		}
		if general := queue.FingerprintOf(queue.ErrorJSON(plain.Message)); general.Message != plain.Message {
			t.Fatalf("%q: %+v, of its message %+v", text, plain, general)
		}
	})
}

func BenchmarkFingerprint(b *testing.B) {
	for _, c := range []struct {
		name  string
		error json.RawMessage
	}{
		{"short", queue.ErrorJSON("dial tcp 10.0.0.7:5432: connect: connection refused")},
		{"kind", json.RawMessage(`{"error":{"type":"Refused","message":"user 17 is unknown"}}`)},
		{"stack", queue.ErrorJSON("panic: oops 17\n\ngoroutine 17 [running]:\n" + strings.Repeat("main.f(0xc000012345)\n\t/app/main.go:42 +0x1d\n", 100))},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				queue.FingerprintOf(c.error)
			}
		})
	}
}
