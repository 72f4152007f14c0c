package access_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestSecret(t *testing.T) {
	form := regexp.MustCompile(`^pgq_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}$`)
	seen := map[string]bool{}
	for range 100 {
		s := access.NewSecret()
		text := s.Reveal()
		if !form.MatchString(text) || seen[text] || seen[s.ID()] {
			t.Fatalf("%q has another form or came twice", text)
		}
		seen[text] = true
		seen[s.ID()] = true
		again, err := access.ParseSecret(text)
		if err != nil || again != s || again.ID() != text[4:12] || again.Digest() != s.Digest() {
			t.Fatalf("%q reads back as %v, %v", text, again, err)
		}
	}
}

// TestHideSecrets: the text around a secret stays, and its secret part goes, whichever kind it has.
func TestHideSecrets(t *testing.T) {
	token := access.NewSecret()
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJl-_"
	for text, want := range map[string]string{
		"queue " + token.Reveal() + " is unknown":    "queue pgq_" + token.ID() + "_[redacted] is unknown",
		"/api/queue/" + jwt + "/stats":               "/api/queue/eyJ[redacted]/stats",
		`got "pgs_12345678_abc", "pgc_12345678_": x`: `got "pgs_12345678_[redacted]", "pgc_12345678_": x`,
		"a.b.c eyJ.x pgq_short_x":                    "a.b.c eyJ.x pgq_short_x",
	} {
		if got := access.HideSecrets(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// Each change of one letter is found before a store is asked, and the error does not repeat the text.
func TestParseSecretRefuses(t *testing.T) {
	good := access.NewSecret().Reveal()
	bad := []string{"", "pgq_", "garbage", good[:len(good)-1], good + "0", " " + good, strings.ToUpper(good), "Bearer " + good, strings.Repeat("x", 51)}
	for i := range good {
		changed := []byte(good)
		changed[i] = '0'
		if good[i] == '0' {
			changed[i] = '1'
		}
		bad = append(bad, string(changed))
	}

	for _, text := range bad {
		_, err := access.ParseSecret(text)
		if !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("%q: %v, want KindUnauthenticated", text, err)
		}
		if len(text) > 4 && strings.Contains(err.Error(), text) {
			t.Errorf("the error %q contains the text", err)
		}
	}
}

// No usual way of printing shows the secret part.
func TestSecretPrintsItsIDAlone(t *testing.T) {
	s := access.NewSecret()
	hidden := s.Reveal()[13:]
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("created", "token", s, "in", struct{ S access.Secret }{s})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("created", "token", s, "in", struct{ S access.Secret }{s})
	encoded, err := json.Marshal(map[string]any{"token": s})
	if err != nil {
		t.Fatal(err)
	}

	all := log.String() + string(encoded) + fmt.Sprintf("%v %+v %#v %s %q %v %+v", s, s, s, s, s, struct{ S access.Secret }{s}, &struct{ S access.Secret }{s})
	if strings.Contains(all, hidden) {
		t.Errorf("the secret is printed: %s", all)
	}
	if !strings.Contains(all, s.ID()) {
		t.Errorf("the id is not printed: %s", all)
	}
	if text := (access.Secret{}).String(); text != "pgq_[redacted]" {
		t.Errorf("the zero secret prints as %q", text)
	}
}

// TestStaticSecretsAreRandom: a static token with few different letters is refused, and each random one passes.
func TestStaticSecretsAreRandom(t *testing.T) {
	for secret, variety := range map[string]int{
		strings.Repeat("x", 38): 1, strings.Repeat("0", 37) + "1": 2, strings.Repeat("secret", 7)[:38]: 5, strings.Repeat("123456789", 5)[:38]: 9,
		strings.Repeat("1234567890", 4)[:38]: 10,
	} {
		_, err := access.ParseStaticTokens("admin-token-file", "# bootstrap\npgq_abcdefgh_"+secret)
		switch {
		case variety >= 10 && err != nil:
			t.Errorf("%d letters: %v", variety, err)
		case variety < 10 && (queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), "admin-token-file, line 2.token: must have at least 10 different letters") || strings.Contains(err.Error(), secret)):
			t.Errorf("%d letters: %v", variety, err)
		}
	}
	for range 1000 {
		if _, err := access.ParseStaticTokens("f", access.NewSecret().Reveal()); err != nil {
			t.Fatal(err)
		}
	}
}
