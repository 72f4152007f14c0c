package access

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// A secret is "pgq_", 8 letters of the id, "_", 32 random letters and 6 letters of a checksum over all letters before:
//
//	pgq_4fJd8sKq_9dK…31 more…Zx1a2b3c
//
// It is one word for a double click, scanners find it by pgq_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}, and a typing error is found
// before the store is asked. 32 letters of 62 hold 190 bits, so guessing needs no lockout.
//
// The secret of a session and a one-time code have the same form behind a prefix of their own, so that none passes as another.
const (
	secretPrefix   = "pgq_"
	sessionPrefix  = "pgs_"
	codePrefix     = "pgc_"
	idLetters      = 8
	randomLetters  = 32
	checkLetters   = 6
	secretBytes    = len(secretPrefix) + idLetters + 1 + randomLetters + checkLetters
	base62         = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	redactedSecret = "pgq_[redacted]"
)

// Secret is the text of a token, of a session or of a one-time code. It prints and logs as its id alone; [Secret.Reveal] returns the text, for the one answer
// that shows it. The zero Secret is not a token.
type Secret struct{ text string }

// NewSecret makes a secret from the random source of the system.
func NewSecret() Secret { return newSecret(secretPrefix) }

func newSecret(prefix string) Secret {
	text := prefix + makeLetters(idLetters) + "_" + makeLetters(randomLetters)
	return Secret{text + checksumOf(text)}
}

// ParseSecret reads a secret. KindUnauthenticated for a text of another form or with a wrong checksum. The error does not
// contain the text.
func ParseSecret(text string) (Secret, error) { return parseSecret(secretPrefix, text) }

func parseSecret(prefix, text string) (Secret, error) {
	if !hasSecretForm(prefix, text) {
		return Secret{}, badForm()
	}
	body := text[:secretBytes-checkLetters]
	if checksumOf(body) != text[secretBytes-checkLetters:] {
		return Secret{}, badSecret("must have the checksum of its letters, got another; copy the whole token")
	}
	return Secret{text}, nil
}

// ParseStaticSecret reads the secret of a file, as [Authenticator.AcceptStatic] takes it. It is [ParseSecret] without the
// checksum, because tools that fill such files, as templates of charts, cannot compute one.
func ParseStaticSecret(text string) (Secret, error) {
	if !hasSecretForm(secretPrefix, text) {
		return Secret{}, badForm()
	}
	return Secret{text}, nil
}

// hasSecretForm reports whether text has the parts of a secret with the prefix.
func hasSecretForm(prefix, text string) bool {
	letters, hasPrefix := strings.CutPrefix(text, prefix)
	id, random, hasBoth := strings.Cut(letters, "_")
	return hasPrefix && hasBoth && len(id) == idLetters && len(random) == randomLetters+checkLetters && strings.Trim(id+random, base62) == ""
}

func badForm() *queue.Error {
	return badSecret("must have the form of a token, pgq_…, got another; copy the whole token")
}

func badSecret(msg string) *queue.Error {
	return &queue.Error{Kind: queue.KindUnauthenticated, Field: "token", Msg: msg}
}

// ID returns the public part, which lists, logs and the audit show; "" for the zero Secret.
func (s Secret) ID() string {
	if s.text == "" {
		return ""
	}
	return s.text[len(secretPrefix) : len(secretPrefix)+idLetters]
}

// variety returns the number of different letters in the secret part.
func (s Secret) variety() int {
	letters := map[rune]bool{}
	for _, letter := range s.text[len(s.text)-randomLetters-checkLetters:] {
		letters[letter] = true
	}
	return len(letters)
}

// Digest returns the SHA-256 of the text, which a store keeps. A slow hash would protect guessable secrets; this one has 190
// random bits.
func (s Secret) Digest() [sha256.Size]byte { return sha256.Sum256([]byte(s.text)) }

// Reveal returns the text. Show it once, to its owner.
func (s Secret) Reveal() string { return s.text }

// String returns the public part.
func (s Secret) String() string {
	if s.text == "" {
		return redactedSecret
	}
	return s.text[:len(secretPrefix)] + s.ID() + "_[redacted]"
}

// GoString keeps the text out of %#v.
func (s Secret) GoString() string { return fmt.Sprintf("access.Secret(%q)", s.String()) }

// LogValue keeps the text out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the text out of JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// makeLetters returns n random letters.
func makeLetters(n int) string {
	letters := make([]byte, n)
	for i := range letters {
		// The random source of the system does not fail.
		at, _ := rand.Int(rand.Reader, big.NewInt(int64(len(base62))))
		letters[i] = base62[at.Int64()]
	}
	return string(letters)
}

// checksumOf returns the CRC-32 of text in base 62.
func checksumOf(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	letters := []byte("000000")
	for i := checkLetters - 1; i >= 0; i-- {
		letters[i] = base62[sum%62]
		sum /= 62
	}
	return string(letters)
}
