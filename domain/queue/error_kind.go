package queue

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue/internal/general"
)

// The kinds of errors that the queue itself sets. A release may not use them.
const (
	// ErrorKindLeaseLost is the kind of an attempt with a lapsed lease.
	ErrorKindLeaseLost = "lease_lost"
	// ErrorKindQuarantined is the kind of the lost lease that ends a task by Queue.MaxLeaseLosses.
	ErrorKindQuarantined = "quarantined"
)

// KindedError is an error with a kind, as "invalid_input" or "unavailable". Settings of a queue, failure groups and the errors
// of a task name the kind.
type KindedError interface {
	error
	// ErrorKind returns a name of at most MaxErrorKindBytes.
	ErrorKind() string
}

// ErrorKindOf returns the kind of err, or of the first error with one that err wraps, in the form that a release takes: it
// truncates a long kind and replaces invalid bytes. "" = err has no kind, or one that the queue itself sets.
func ErrorKindOf(err error) string {
	kinded, ok := errors.AsType[KindedError](err)
	if !ok {
		return ""
	}
	return CleanErrorKind(kinded.ErrorKind())
}

// CleanErrorKind returns kind in the form that a release takes, as ErrorKindOf does.
func CleanErrorKind(kind string) string {
	kind = general.TruncateText(strings.ToValidUTF8(strings.ReplaceAll(kind, "\x00", ""), "\uFFFD"), MaxErrorKindBytes)
	if isOwnErrorKind(kind) {
		return ""
	}
	return kind
}

func isOwnErrorKind(kind string) bool {
	return kind == ErrorKindLeaseLost || kind == ErrorKindQuarantined
}

// checkKind checks the kind and the fingerprint of r: both describe a failure.
func (r Release) checkKind() error {
	if r.ErrorKind == "" && r.Fingerprint == "" {
		return nil
	}

	if r.Outcome.Move() != MoveFail {
		field, value := "error_kind", r.ErrorKind
		if value == "" {
			field, value = "fingerprint", r.Fingerprint
		}
		return Invalid(field, fmt.Sprintf("must come with the outcome failure or permanent, got %.64q with %.64q; leave it out", value, r.Outcome))
	}
	return cmp.Or(checkReportedKind(r.ErrorKind), CheckFingerprint(r.Fingerprint))
}

// checkReportedKind checks a kind that a worker reports.
func checkReportedKind(kind string) error {
	if isOwnErrorKind(kind) {
		return Invalid("error_kind", fmt.Sprintf("must not be a kind that the queue itself sets, got %.64q; choose another", kind))
	}
	return CheckErrorKind("error_kind", kind)
}

// CheckErrorKind checks the kind of an error: at most 64 bytes of valid UTF-8 without NUL; empty means none.
func CheckErrorKind(field, kind string) error {
	if len(kind) > MaxErrorKindBytes {
		return Invalid(field, fmt.Sprintf("must have at most %d bytes, got %d", MaxErrorKindBytes, len(kind)))
	}
	return checkStorableText(field, kind)
}
