package queuetest

import (
	"errors"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// checkSubject checks the subject and the field of an error.
func checkSubject(t testing.TB, err error, subject, field string) {
	t.Helper()
	e, ok := errors.AsType[*queue.Error](err)
	if !ok {
		t.Fatalf("%v (%T) is no *queue.Error", err, err)
	}
	if e.Subject != subject || e.Field != field {
		t.Fatalf("error %q is about subject %q, field %q; want %q, %q", err, e.Subject, e.Field, subject, field)
	}
}
