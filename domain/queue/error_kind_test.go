package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

type kindedError string

func (e kindedError) Error() string     { return "an error" }
func (e kindedError) ErrorKind() string { return string(e) }

func TestErrorKindOf(t *testing.T) {
	long := strings.Repeat("x", queue.MaxErrorKindBytes)
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("plain"), ""},
		{kindedError("busy"), "busy"},
		{fmt.Errorf("call: %w", errors.Join(errors.New("plain"), kindedError("busy"))), "busy"},
		{kindedError(long + "y"), long},
		{kindedError("a\x00b\xff"), "ab\uFFFD"},
		{kindedError(queue.ErrorKindQuarantined), ""},
		{kindedError(queue.ErrorKindLeaseLost), ""},
	} {
		if got := queue.ErrorKindOf(c.err); got != c.want {
			t.Errorf("the kind of %v is %q, want %q", c.err, got, c.want)
		}
	}
}

func TestReleaseTakesAKindOfFailuresAlone(t *testing.T) {
	for _, c := range []struct {
		r     queue.Release
		field string // "" = fine
	}{
		{queue.Release{Outcome: queue.OutcomeFailure, ErrorKind: strings.Repeat("x", queue.MaxErrorKindBytes), Fingerprint: strings.Repeat("x", queue.MaxFingerprintBytes)}, ""},
		{queue.Release{Outcome: queue.OutcomePermanent, ErrorKind: "bad"}, ""},
		{queue.Release{Outcome: queue.OutcomeFailure, ErrorKind: strings.Repeat("x", queue.MaxErrorKindBytes+1)}, "error_kind"},
		{queue.Release{Outcome: queue.OutcomeFailure, ErrorKind: "\xff"}, "error_kind"},
		{queue.Release{Outcome: queue.OutcomeFailure, ErrorKind: queue.ErrorKindQuarantined}, "error_kind"},
		{queue.Release{Outcome: queue.OutcomeFailure, ErrorKind: queue.ErrorKindLeaseLost}, "error_kind"},
		{queue.Release{Outcome: queue.OutcomeFailure, Fingerprint: strings.Repeat("x", queue.MaxFingerprintBytes+1)}, "fingerprint"},
		{queue.Release{Outcome: queue.OutcomeFailure, Fingerprint: "\x00"}, "fingerprint"},
		{queue.Release{Outcome: queue.OutcomeSuccess, ErrorKind: "bad"}, "error_kind"},
		{queue.Release{Outcome: queue.OutcomeHandBack, Fingerprint: "bad"}, "fingerprint"},
		{queue.Release{Outcome: queue.OutcomeSnooze, Delay: 1, ErrorKind: "bad"}, "error_kind"},
	} {
		c.r.ID = 1
		field := ""
		if e, ok := errors.AsType[*queue.Error](c.r.Check(queue.DefaultMaxPayloadBytes)); ok {
			field = e.Field
		}
		if field != c.field {
			t.Errorf("%+v is refused for %q, want %q", c.r, field, c.field)
		}
	}
}

func TestFailuresAreGroupedByTheirKindAndFingerprint(t *testing.T) {
	g := queue.NewFailureGrouper("n", "q")
	text := []byte(`{"type":"Error","error":"no answer"}`)
	for i, f := range []queue.Failure{
		{}, {Kind: "busy"}, {Kind: "busy"}, {Kind: "gone"}, {Fingerprint: "mine"}, {Fingerprint: "mine", Kind: "gone"}, {},
	} {
		f.Task, f.Error = int64(i+1), text
		g.Add(f)
	}
	got := map[string][]int64{}
	for _, group := range g.Result().Groups {
		got[group.Kind+" "+fmt.Sprint(group.IDs)] = group.IDs
	}
	for _, want := range []string{"Error [1 7]", "busy [2 3]", "gone [4]", "Error [5 6]"} {
		if got[want] == nil {
			t.Errorf("got %v, want %q", got, want)
		}
	}
}
