package queue

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue/internal/general"
)

// FingerprintVersion is the version of the rules of [FingerprintOf]. A change of a rule raises it, because equal errors then get
// other fingerprints.
const FingerprintVersion = 1

const (
	// MaxFingerprintBytes bounds the fingerprint that a worker gives, in bytes of UTF-8.
	MaxFingerprintBytes = 128
	// MaxErrorKindBytes bounds the kind of an error, in bytes of UTF-8.
	MaxErrorKindBytes = 64
	// maxErrorNesting bounds the objects in which the message of an error is searched.
	maxErrorNesting = 3
)

// Fingerprint identifies errors that are alike except for ids, numbers, times and other data.
type Fingerprint struct {
	// ID has 16 hexadecimal digits.
	ID string
	// Kind is the type or code that the error names, as it is; "" without one.
	Kind string
	// Message is the text of the error with placeholders in the place of data, as "<n>" or "<url>".
	Message string
}

// FingerprintOf returns the fingerprint of an error: of any JSON, of bytes that cannot be read as JSON, and of none. It is a
// pure function of the bytes, so all versions of a program agree for one FingerprintVersion.
//
// The kind is the first field of kind, type, name, code, class and status that is a text or a number. The message is the
// first of error, message, msg, detail and similar names, also within an object, in its general form: frames of a stack are
// left out, and addresses, paths, times, numbers, ids and texts in quotes are replaced. Numbers behind words such as status
// and code stay, as do quoted names of columns, modules and the like. The first 512 bytes of that form decide.
//
// It takes a few microseconds for a message of a line, and reads at most 16 KiB of a message.
func FingerprintOf(b json.RawMessage) Fingerprint { return FingerprintOfKind("", b) }

// FingerprintOfKind is FingerprintOf for an error of a known kind, as a worker reports it. "" is an unknown one.
func FingerprintOfKind(kind string, b json.RawMessage) Fingerprint {
	named, message := splitError(b)
	kind = general.TruncateText(strings.ToValidUTF8(cmp.Or(kind, named), "\uFFFD"), MaxErrorKindBytes)
	message = general.Message(message)
	return Fingerprint{
		ID: FormatFingerprint(hashFingerprint("error", kind, message)), Kind: kind, Message: message,
	}
}

// WithName returns f with the ID of the fingerprint that a worker gave: at most MaxFingerprintBytes of valid UTF-8 without
// NUL. Equal names have equal IDs with any error, and these differ from the IDs of errors without a name. "" returns f as it
// is.
func (f Fingerprint) WithName(name string) (Fingerprint, error) {
	if name == "" {
		return f, nil
	}
	if err := CheckFingerprint(name); err != nil {
		return f, err
	}

	f.ID = FormatFingerprint(hashFingerprint("name", name))
	return f, nil
}

// CheckFingerprint checks the fingerprint that a worker gives: at most MaxFingerprintBytes of valid UTF-8 without NUL; empty means
// none.
func CheckFingerprint(name string) error {
	if len(name) > MaxFingerprintBytes {
		return Invalid("fingerprint", fmt.Sprintf("must have at most %d bytes, got %d", MaxFingerprintBytes, len(name)))
	}
	return checkStorableText("fingerprint", name)
}

// Hash returns the fingerprint as the number that rows hold. It is never 0 for a fingerprint of this package.
func (f Fingerprint) Hash() int64 {
	hash, err := ParseFingerprint(f.ID)
	if err != nil {
		return 0
	}
	return hash
}

// FormatFingerprint returns the ID of the fingerprint with a hash.
func FormatFingerprint(hash int64) string {
	return fmt.Sprintf("%016x", uint64(hash)) //nolint:gosec // all bits are shown
}

// ParseFingerprint reads the ID of a fingerprint.
func ParseFingerprint(id string) (int64, error) {
	hash, err := strconv.ParseUint(id, 16, 64)
	if err != nil || len(id) != 16 {
		return 0, Invalid("fingerprint", fmt.Sprintf("must be 16 hexadecimal digits, got %.64q; take it from the list of failures", id))
	}
	return int64(hash), nil //nolint:gosec // all bits are kept
}

// hashFingerprint returns the first 64 bits of a hash over the version, a space of values and the parts. Lengths keep the
// parts apart.
func hashFingerprint(space string, parts ...string) int64 {
	b := make([]byte, 0, 1024)
	b = strconv.AppendInt(b, FingerprintVersion, 10)
	b = append(append(b, ' '), space...)
	for _, part := range parts {
		b = append(strconv.AppendInt(append(b, ' '), int64(len(part)), 10), ' ')
		b = append(b, part...)
	}

	sum := sha256.Sum256(b)
	hash := int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // all bits of the hash are used
	return cmp.Or(hash, 1)
}

// The names of the fields of an error, in the order of preference.
var (
	kindFields    = []string{"kind", "type", "name", "code", "class", "status"}
	messageFields = []string{"error", "message", "msg", "detail", "reason", "title", "text", "truncated", "exception", "cause"}
)

// splitError returns the kind and the message of an error. An object without a field of a known name is its own message.
func splitError(b json.RawMessage) (kind, message string) {
	for range maxErrorNesting {
		var text string
		if len(b) > 0 && b[0] == '"' && json.Unmarshal(b, &text) == nil {
			return kind, text
		}

		var fields map[string]json.RawMessage
		if len(b) == 0 || b[0] != '{' || json.Unmarshal(b, &fields) != nil {
			break
		}
		if kind == "" {
			kind = readKind(fields)
		}
		inner := findMessage(fields)
		if inner == nil {
			break
		}
		b = inner
	}
	if string(b) == "null" {
		return kind, ""
	}
	return kind, string(b)
}

// readKind returns the kind that an error names: a text or a number.
func readKind(fields map[string]json.RawMessage) string {
	for _, name := range kindFields {
		raw := fields[name]
		var text string
		switch {
		case len(raw) == 0:
		case raw[0] == '"' && json.Unmarshal(raw, &text) == nil && text != "":
			return text
		case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
			return string(raw)
		}
	}
	return ""
}

// findMessage returns the field with the message of an error; nil without one.
func findMessage(fields map[string]json.RawMessage) json.RawMessage {
	for _, name := range messageFields {
		if raw := fields[name]; len(raw) > 0 && (raw[0] == '"' || raw[0] == '{') {
			return raw
		}
	}
	return nil
}
