package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestTokensThatNoServerAccepts: a part of a token, and another secret of pgqueue, are refused before the first call, from a file
// and from the environment, with the rule and the remedy and without the text.
func TestTokensThatNoServerAccepts(t *testing.T) {
	token := access.NewSecret().Reveal()
	for name, c := range map[string]struct{ text, says string }{
		"a whole token":         {token + "\n", ""},
		"a JWT":                 {"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", ""},
		"a token of a proxy":    {"s3cret", ""},
		"the beginning":         {token[:50], "must have the form of a token, pgq_…, got another one of 50 letters; copy the whole token"},
		"a letter too many":     {token + "x", "got another one of 52 letters"},
		"the id alone":          {token[:12], "got another one of 12 letters"},
		"a secret of a session": {"pgs_" + token[4:], "must have the form of a token"},
		"a one-time code":       {"pgc_" + token[4:], "must have the form of a token"},
		"a line of tokens":      {token + " system@*", "must be visible ASCII alone, got a blank, a line end or another character; copy the token alone"},
		"two tokens":            {token + "\n" + token, "must be visible ASCII alone"},
	} {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for field, s := range map[string]*Server{
			"--auth-token-file":  {URL: DefaultServerURL, Protocol: REST, TokenFile: file},
			"PGQUEUE_AUTH_TOKEN": {URL: DefaultServerURL, Protocol: Connect, Token: c.text},
		} {
			_, closeClient, err := s.Dial(0)
			switch {
			case err == nil:
				closeClient()
				if c.says != "" {
					t.Errorf("%s: %s is taken", field, name)
				}
			case c.says == "" || queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), field+": ") || !strings.Contains(err.Error(), c.says) ||
				strings.Contains(err.Error(), c.text):
				t.Errorf("%s: %s gets %v, want %q", field, name, err, c.says)
			}
		}
	}
}
