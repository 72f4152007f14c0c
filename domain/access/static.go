package access

import (
	"fmt"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// MaxStaticTokens is the largest number of tokens in a file.
const MaxStaticTokens = 100

// minVariety is the least number of different letters in the 38 of a static secret. A random one has about 29; one that
// was typed, as 38 times x, has few.
const minVariety = 10

// StaticToken is a token of the settings of a server: for the start of an installation, and for charts that fill a file.
type StaticToken struct {
	Secret Secret
	Grants []Grant
}

// ParseStaticTokens reads a file of static tokens. Each line has a token, and behind it its grants with blanks between; a
// token alone has system@*. Empty lines and lines that start with # are skipped. field names the file. KindInvalid for no
// token, for more than [MaxStaticTokens], or for a wrong line. The errors contain no token.
func ParseStaticTokens(field, content string) ([]StaticToken, error) {
	var tokens []StaticToken
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(content) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}

		t, err := parseStaticLine(words)
		if err != nil {
			return nil, queue.At(fmt.Sprintf("%s, line %d", field, number), err)
		}
		if seen[t.Secret.ID()] {
			return nil, queue.Invalid(fmt.Sprintf("%s, line %d", field, number), fmt.Sprintf("must be a token with an id of its own, got %.8q a second time; make another token", t.Secret.ID()))
		}
		seen[t.Secret.ID()] = true
		tokens = append(tokens, t)
	}

	if len(tokens) == 0 || len(tokens) > MaxStaticTokens {
		return nil, queue.Invalid(field, fmt.Sprintf("must hold 1 to %d tokens, got %d; write one on each line", MaxStaticTokens, len(tokens)))
	}
	return tokens, nil
}

// parseStaticLine reads a token and its grants.
func parseStaticLine(words []string) (StaticToken, error) {
	secret, err := ParseStaticSecret(words[0])
	if err != nil {
		return StaticToken{}, queue.Invalid("token", "must have the form of a token of pgqueue, pgq_…, got another text; make one with pgqueue generate-token")
	}
	if secret.variety() < minVariety {
		return StaticToken{}, queue.Invalid("token", fmt.Sprintf(
			"must have at least %d different letters in its secret part, got %d, which can be guessed; make one with pgqueue generate-token", minVariety, secret.variety()))
	}
	if len(words) == 1 {
		return StaticToken{secret, []Grant{{Role: RoleSystem, Namespace: "*"}}}, nil
	}
	grants, err := ParseGrants(words[1:])
	return StaticToken{secret, grants}, err
}
