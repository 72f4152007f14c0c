package queue_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// undeliveredService answers its first records of an undelivered retain with errs.
type undeliveredService struct {
	queue.Service
	errs  []error
	calls int
}

func (s *undeliveredService) UndeliveredRetain(ctx context.Context, _, _ string) error {
	s.calls++
	if ctx.Err() != nil || len(s.errs) == 0 {
		return ctx.Err()
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return err
}

// TestGiveBackOfARequest: an unavailable store costs a repeat of the record, and a commit in doubt ends it, because the
// record counts.
func TestGiveBackOfARequest(t *testing.T) {
	unavailable := &queue.Error{Kind: queue.KindUnavailable, Msg: "the pool is full"}
	indeterminate := &queue.Error{Kind: queue.KindIndeterminate, Msg: "the connection broke at the commit"}
	late := &queue.Error{Kind: queue.KindDeadline, Msg: "no connection within the timeout of a call"}
	for _, test := range []struct {
		name  string
		errs  []error
		calls int
		want  error
	}{
		{"unavailable twice", []error{unavailable, unavailable}, 3, nil},
		{"a call that timed out", []error{late, unavailable}, 3, nil},
		{"a commit in doubt", []error{unavailable, indeterminate}, 2, indeterminate},
		{"unavailable for good", slices.Repeat([]error{unavailable}, 1000), 0, unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left, cancel := context.WithCancel(t.Context())
				cancel()
				s := &undeliveredService{errs: test.errs}
				began := time.Now()

				err := queue.GiveBack(left, s, queue.RetainRequest{Worker: "w", RequestID: "r"}, heldTasks(2))
				if !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if test.calls > 0 && s.calls != test.calls {
					t.Errorf("%d calls, want %d", s.calls, test.calls)
				}
				if took := time.Since(began); test.calls == 0 && took != queue.HandBackTimeout {
					t.Errorf("took %v, want %v", took, queue.HandBackTimeout)
				}
			})
		})
	}
}

// TestArgumentsOfRequest walks over the fields of a retain: all but those that may differ in its repeat change the arguments.
func TestArgumentsOfRequest(t *testing.T) {
	may := []string{"Worker", "Wait", "RequestID"} // the key of the request, and how long it waits
	first := queue.RetainRequest{}.Arguments()
	for field, value := range reflect.ValueOf(queue.RetainRequest{}).Fields() {
		var r queue.RetainRequest
		switch to := reflect.ValueOf(&r).Elem().FieldByIndex(field.Index); value.Kind() {
		case reflect.String:
			to.SetString("a")
		case reflect.Slice:
			to.Set(reflect.ValueOf([]string{"a"}))
		default:
			to.SetInt(7)
		}

		if differs := r.Arguments() != first; differs == slices.Contains(may, field.Name) {
			t.Errorf("%s: other arguments is %v", field.Name, differs)
		}
	}
}
