package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxSecretBytes bounds the file of a secret. The largest one is a JWT of 8 KB.
const maxSecretBytes = 16 << 10

// secretValue is a setting that only its environment variable sets, because each user of a machine can read the flags of a
// running program.
type secretValue struct {
	to   *string
	name string
}

// SecretVar defines the setting name, which its environment variable alone sets. It reads no flag: the hidden flag exists so
// that its use gets an answer with the remedy.
func SecretVar(fs *pflag.FlagSet, to *string, name, usage string) {
	fs.Var(&secretValue{to, name}, name, usage)
	_ = fs.MarkHidden(name)
	FromEnvironment(fs, name)
}

// String never shows the secret.
func (s *secretValue) String() string { return "" }

// Set refuses a flag.
func (s *secretValue) Set(string) error {
	return fmt.Errorf("must not be a flag, which other users of this machine can read, got one; set %s, or give --%s-file", Variable(s.name), s.name)
}

func (s *secretValue) Type() string { return "secret" }

// byteOrderMark precedes the text of files that some editors write. It is invisible.
const byteOrderMark = "\uFEFF"

// ReadSecret returns the content of a file of secrets without the white space around it and without a byte order mark. field names the setting with the
// path. Its errors never contain the content.
func ReadSecret(field, path string) (string, error) {
	content, err := ReadFile(field, path, maxSecretBytes)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(strings.TrimPrefix(content, byteOrderMark))
	if text == "" {
		return "", queue.Invalid(field, fmt.Sprintf("must be a file with a secret, got nothing in %.200q; write the secret into it", path))
	}
	return text, nil
}

// ReadFile returns the content of a file of at most limit bytes. field names the setting with the path. Each error is
// KindInvalid and never contains the content.
func ReadFile(field, path string, limit int) (string, error) {
	f, err := os.Open(path) //nolint:gosec // a setting of the operator
	if err != nil {
		return "", refuseFile(field, path, err)
	}
	defer func() { _ = f.Close() }()

	content, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return "", refuseFile(field, path, err)
	case len(content) > limit:
		return "", queue.Invalid(field, fmt.Sprintf("must be a file of at most %d bytes, got a larger one in %.200q; check the path", limit, path))
	}
	return string(content), nil
}

func refuseFile(field, path string, err error) error {
	return queue.Invalid(field, fmt.Sprintf("must be a file that can be read, got %.200q: %v; check the path and its rights", path, reasonOf(err)))
}

// reasonOf returns err without the path that os adds.
func reasonOf(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// secretFileEvery is the interval at which a file of a secret is read again, so that a rotated secret takes effect.
const secretFileEvery = 5 * time.Second

// SecretFile is a secret in a file that may be replaced while the program runs. It is safe for concurrent use.
type SecretFile struct {
	field, path string

	mu     sync.Mutex
	text   string
	readAt time.Time
}

// NewSecretFile reads the secret for the first time.
func NewSecretFile(field, path string) (*SecretFile, error) {
	text, err := ReadSecret(field, path)
	if err != nil {
		return nil, err
	}
	return &SecretFile{field: field, path: path, text: text, readAt: time.Now()}, nil
}

// Read returns the secret of the file, at most 5 s old. While the file cannot be read, as during its replacement, it
// returns the former secret.
func (s *SecretFile) Read() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.readAt) >= secretFileEvery {
		s.readAt = time.Now()
		if text, err := ReadSecret(s.field, s.path); err == nil {
			s.text = text
		}
	}
	return s.text
}
