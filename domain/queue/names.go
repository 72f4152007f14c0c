package queue

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The ticker names that routes of REST already mean.
const (
	ReservedTickerName   = "next"
	ReservedTickerFuture = "upcoming"
)

// QueueName trims and lower-cases s, in ASCII, and checks it against ^[a-z][a-z0-9_-]{0,62}$.
func QueueName(s string) (string, error) { return normalizeName("queue", s) }

// NamespaceName is QueueName for a namespace. The system's own namespace is refused: applications may not use it.
func NamespaceName(s string) (string, error) {
	n, err := normalizeName("namespace", s)
	if err == nil && n == SystemNamespace {
		return "", Invalid("namespace", fmt.Sprintf("must not be the system's own namespace, got %.64q; choose another", n))
	}
	return n, err
}

// TickerName is QueueName for a ticker. "next" and "upcoming" are reserved.
func TickerName(s string) (string, error) {
	n, err := normalizeName("ticker", s)
	if err == nil && (n == ReservedTickerName || n == ReservedTickerFuture) {
		return "", Invalid("ticker", fmt.Sprintf("must not be a reserved name, got %.64q; choose another", n))
	}
	return n, err
}

func normalizeName(field, s string) (string, error) {
	n := foldName(s)
	if n == "" {
		return "", Invalid(field, "must be a name, got none")
	}

	if len(n) > MaxNameBytes {
		return "", Invalid(field, fmt.Sprintf("must be a name of at most %d characters, got %d", MaxNameBytes, len(n)))
	}

	for i := range len(n) {
		c := n[i]
		letter := c >= 'a' && c <= 'z'
		rest := c >= '0' && c <= '9' || c == '_' || c == '-'
		if !letter && (i == 0 || !rest) {
			return "", Invalid(field, fmt.Sprintf("must be a letter first, then letters, digits, '_' and '-', got %.64q", n))
		}
	}

	return n, nil
}

// nameSpace are the characters around a name that do not count: those that btrim removes in create_task.
const nameSpace = " \t\n\v\f\r"

// foldName trims and lower-cases a name as create_task does, in ASCII alone: in Unicode the Kelvin sign would become a k.
func foldName(s string) string {
	b := []byte(strings.Trim(s, nameSpace))
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// CheckWorker checks the name of a worker: 1 to 255 bytes of valid UTF-8 without NUL.
func CheckWorker(s string) error {
	switch {
	case s == "":
		return Invalid("worker", "must be the name of a worker, got none")
	case len(s) > MaxWorkerBytes:
		return Invalid("worker", fmt.Sprintf("must be a name of at most %d bytes, got %d", MaxWorkerBytes, len(s)))
	}
	return checkStorableText("worker", s)
}

// CheckKey checks an idempotency key: at most 255 bytes of valid UTF-8 without NUL; empty means none.
func CheckKey(s string) error {
	if len(s) > MaxKeyBytes {
		return Invalid("key", fmt.Sprintf("must have at most %d bytes, got %d", MaxKeyBytes, len(s)))
	}
	return checkStorableText("key", s)
}

// CheckHeaders checks the number, the size and the encoding of a task's headers.
func CheckHeaders(h map[string]string) error {
	if len(h) > MaxHeaders {
		return Invalid("headers", fmt.Sprintf("must be at most %d headers, got %d", MaxHeaders, len(h)))
	}

	size := 0
	for k, v := range h {
		if k == "" {
			return Invalid("headers", "must have names, got a header without one; name it, or leave it out")
		}
		size += len(k) + len(v)
		for _, s := range [2]string{k, v} {
			if err := checkStorableText("headers", s); err != nil {
				return err
			}
		}
	}

	if size > MaxHeadersBytes {
		return Invalid("headers", fmt.Sprintf("must have at most %d bytes together, got %d", MaxHeadersBytes, size))
	}

	return nil
}

// checkStorableText refuses what PostgreSQL's text cannot hold.
func checkStorableText(field, s string) error {
	if !utf8.ValidString(s) {
		return Invalid(field, fmt.Sprintf("must be valid UTF-8, got %.64q; encode the text as UTF-8", s))
	}
	if strings.IndexByte(s, 0) >= 0 {
		return Invalid(field, fmt.Sprintf("must not contain NUL, got %.64q; remove the byte", s))
	}
	return nil
}

// SuggestName is the end of an error about an unknown name: "; did you mean status?" with the first of known that is
// similar, "" when none is.
func SuggestName(name string, known []string) string {
	for _, k := range known {
		if isSimilar(name, k) {
			return "; did you mean " + k + "?"
		}
	}
	return ""
}

// isSimilar reports whether a and b differ only in case, in - and _, or in one missing, added, wrong or swapped
// character.
func isSimilar(a, b string) bool {
	a, b = strings.ToLower(strings.ReplaceAll(a, "-", "_")), strings.ToLower(b)
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}

	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	if i == len(a) || a[i+1:] == b[i+1:] {
		return true
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
