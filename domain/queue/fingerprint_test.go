package queue_test

import (
	"encoding/json"
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
		{`{"error":"no route to host"}`, "08ab8b4c85be4a89", "", "no route to host"},
		{`"no route to host"`, "08ab8b4c85be4a89", "", "no route to host"},
		{`{"type":"TimeoutError","message":"no answer within 30s"}`, "2064441098ec2006", "TimeoutError", "no answer within <duration>"},
		{`{"code":503,"error":"busy"}`, "acbfa3a7b4784137", "503", "busy"},
		{`{"code":404,"error":"busy"}`, "2f84bfc8dad85207", "404", "busy"},
		{`{"error":{"type":"Refused","message":"user 17 is unknown"}}`, "543fd2aa020e0eef", "Refused", "user <n> is unknown"},
		{`{"error":"dial tcp 10.0.0.7:5432: connect: connection refused"}`, "071f1d219a507706", "", "dial tcp <addr>: connect: connection refused"},
		{`{"error":"dial tcp [fe80::1]:80: i/o timeout"}`, "d177d2ca4bf6a641", "", "dial tcp <addr>: i/o timeout"},
		{`{"error":"GET https://api.example.com/v1/user/17?q=a: 500"}`, "6aa9e1d8b1679644", "", "GET <url> <n>"},
		{`{"error":"mailbox of ann.b+c@example.co.uk is full"}`, "676346a5aa2de08d", "", "mailbox of <mail> is full"},
		{`{"error":"order 0b5c2f0e-9b1d-4c53-8a4e-7f7f7f7f7f7f is closed"}`, "b0dd32c6d0914664", "", "order <uuid> is closed"},
		{`{"error":"commit 9fceb02d0ae598e95dc970b74767f19372d61af8 is gone"}`, "ca09bc8a282bf67c", "", "commit <id> is gone"},
		{`{"error":"object cus_9s6XKzkNRiz8i3 is gone"}`, "7f7fb432d04a723a", "", "object <id> is gone"},
		{`{"error":"at 2026-01-02T15:04:05.123Z, since 2026-01-02 15:04:05"}`, "cdb2fce86953fbc8", "", "at <time>, since <time>"},
		{`{"error":"open /var/lib/app/data-17.json: no such file"}`, "6e8151240cbbf518", "", "open <path>: no such file"},
		{`{"error":"open C:\\data\\x.txt failed"}`, "a53e3527a83b7a87", "", "open <path> failed"},
		{`{"error":"panic at 0x7f3a of frame 3"}`, "391292c7e37d7c91", "", "panic at <addr> of frame <n>"},
		{`{"error":"got \"abc\", want \"def\""}`, "e1362ab8d1b86550", "", `got "abc", want "def"`},
		{`{"error":"got 'a text that a caller has sent' as name"}`, "3d4f6310678f6c20", "", "got '<text>' as name"},
		{`{"error":"can't reach it, won't try it again for 2h30m"}`, "cd88ff0d5708d5a1", "", "can't reach it, won't try it again for <duration>"},
		{`{"error":"took 1.5e3 of 1,000.25 units"}`, "0f05b866883fde77", "", "took <n> of <n> units"},
		{`{"error":"  two\n\tlines  "}`, "e5d1f2a6628ec40a", "", "two lines"},
		{`{"error":"lease expired"}`, "1c83366bde6783ee", "", "lease expired"},
		{`{"a":17,"b":[1,2]}`, "9be76c130e978b23", "", `{"a":<n>,"b":[<n>]}`},
		{`17`, "8b6447940300a80e", "", "<n>"},
		{`null`, "5e9da77a672cb094", "", ""},
		{``, "5e9da77a672cb094", "", ""},
		{`{"error":null}`, "c8e9f008311fa39d", "", `{"error":null}`},
		{`not JSON 17`, "0328f6ae00a76a72", "", "not JSON <n>"},
		{`{"error":"Zugriff verweigert für Nutzer 9"}`, "7941bdae433faead", "", "Zugriff verweigert für Nutzer <n>"},
	} {
		f := queue.FingerprintOf(json.RawMessage(c.err))
		if f.ID != c.id || f.Kind != c.kind || f.Message != c.message {
			t.Errorf("%s:\ngot  %q, %q, %q\nwant %q, %q, %q", c.err, f.ID, f.Kind, f.Message, c.id, c.kind, c.message)
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
		if !fingerprintForm.MatchString(plain.ID) || len(plain.Kind) > 64 {
			t.Fatalf("%q: %+v", text, plain)
		}

		other := []byte(text) // byte by byte: it may be no valid UTF-8
		for i, c := range other {
			if c >= '0' && c <= '9' {
				other[i] = '0' + (c-'0'+1)%10
			}
		}
		one, two := queue.FingerprintOf(queue.ErrorJSON(text)), queue.FingerprintOf(queue.ErrorJSON(string(other)))
		if one != two {
			t.Fatalf("%q and %q: %+v and %+v", text, other, one, two)
		}
	})
}
