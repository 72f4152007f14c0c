package wire

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

func TestEveryKindGoesOverTheWireAndBack(t *testing.T) {
	for _, k := range queue.Kinds() {
		in := &queue.Error{Kind: k, Op: "op", Subject: "queue q", Field: "f", Msg: "m", Err: errors.New("secret")}
		c := ConnectError(fmt.Errorf("wrapped: %w", in))
		out := RemoteError(c)
		if !errors.Is(out, k) || out.Op != in.Op || out.Subject != in.Subject || out.Field != in.Field || out.Msg != in.Msg {
			t.Errorf("%s became %#v", k, out)
		}
		if c.Code() != CodeOfKind(k) || out.Err != nil {
			t.Errorf("%s has code %s, cause %v", k, c.Code(), out.Err)
		}
		if got := queue.KindOf(Err(Detail(k))); got != k {
			t.Errorf("the sentinel of %s became %s", k, got)
		}
	}
}

func TestEveryKindOfTheProtoIsOneOfTheDomain(t *testing.T) {
	seen := map[queue.Kind]bool{}
	for n := range pb.Kind_name {
		if n == 0 {
			continue
		}
		k := queue.KindOf(Err(&pb.ErrorDetail{Kind: pb.Kind(n)}))
		if seen[k] {
			t.Errorf("%s stands for two", k)
		}
		seen[k] = true
	}
	if len(seen) != len(queue.Kinds()) {
		t.Errorf("the proto has %d kinds, the domain %d", len(seen), len(queue.Kinds()))
	}
}

func TestAnErrorWithoutDetailHasTheKindOfItsCode(t *testing.T) {
	for c := connect.CodeCanceled; c <= connect.CodeUnauthenticated; c++ {
		got := RemoteError(connect.NewError(c, "m")).Kind
		if c != connect.CodeUnknown && got != KindOfCode(c) {
			t.Errorf("%s became %s", c, got)
		}
	}
	for err, want := range map[error]queue.Kind{
		context.Canceled: queue.KindCanceled, context.DeadlineExceeded: queue.KindDeadline, errors.New("x"): queue.KindInternal,
	} {
		if got := queue.KindOf(Err(Detail(err))); got != want {
			t.Errorf("%v became %s", err, got)
		}
	}
}

func TestEveryWordHasANumber(t *testing.T) {
	checkEnum(t, statuses, queue.Statuses(), len(pb.Status_name))
	checkEnum(t, eventKinds, queue.EventKinds(), len(pb.EventKind_name))
	checkEnum(t, outcomes, []queue.Outcome{
		queue.OutcomeSuccess, queue.OutcomeFailure, queue.OutcomePermanent, queue.OutcomeHandBack, queue.OutcomeSnooze,
	}, len(pb.Outcome_name))
	checkEnum(t, backoffs, []queue.Backoff{queue.BackoffExponential, queue.BackoffLinear, queue.BackoffConstant}, len(pb.Backoff_name))
	checkEnum(t, misfires, []queue.Misfire{queue.MisfireSkip, queue.MisfireOnce, queue.MisfireAll}, len(pb.Misfire_name))
	checkEnum(t, overlaps, []queue.Overlap{queue.OverlapAllow, queue.OverlapSkip}, len(pb.Overlap_name))
}

func checkEnum[D ~string, P ~int32](t *testing.T, e enum[D, P], words []D, names int) {
	t.Helper()
	for _, w := range words {
		if got := e.wordOfNumber(e.numberOfWord(w)); got != w {
			t.Errorf("%q became %q", w, got)
		}
	}
	if len(words)+1 != names || len(e.words) != len(words) {
		t.Errorf("%d words of %T, %d numbers on the wire", len(words), words, names-1)
	}
	if e.numberOfWord("bogus") == 0 || e.wordOfNumber(e.numberOfWord("bogus")) == "" {
		t.Errorf("an unknown %T became none", words)
	}
}

func TestWhatTheDomainCannotHoldIsRefused(t *testing.T) {
	for _, d := range []*durationpb.Duration{
		{Seconds: math.MaxInt64}, {Seconds: math.MinInt64}, {Nanos: 1e9}, {Seconds: 1, Nanos: -1}, {Seconds: 1 << 34},
	} {
		var r Reader
		if r.Duration("f", d); !isInvalid(r.Err(), "f") {
			t.Errorf("%v was taken", d)
		}
	}
	for _, ts := range []*timestamppb.Timestamp{{Seconds: math.MaxInt64}, {Seconds: math.MinInt64}, {Nanos: -1}, {Nanos: 1e9}} {
		var r Reader
		if r.Time("f", ts); !isInvalid(r.Err(), "f") {
			t.Errorf("%v was taken", ts)
		}
	}
	for _, n := range []int32{math.MinInt16 - 1, math.MaxInt16 + 1} {
		var r Reader
		if r.NewTasks([]*pb.NewTask{{}, {Priority: n}}); !isInvalid(r.Err(), "tasks[1].priority") {
			t.Errorf("%d was taken: %v", n, r.Err())
		}
	}
}

func isInvalid(err error, field string) bool {
	e, ok := errors.AsType[*queue.Error](err)
	return ok && e.Kind == queue.KindInvalid && e.Field == field
}

func FuzzDuration(f *testing.F) {
	for _, d := range []time.Duration{0, 1, -1, time.Second, -time.Second - 1, queue.MaxDuration, math.MaxInt64, math.MinInt64} {
		f.Add(int64(d))
	}
	f.Fuzz(func(t *testing.T, n int64) {
		var r Reader
		if got := r.Duration("f", Duration(time.Duration(n))); int64(got) != n || r.Err() != nil {
			t.Fatalf("%d became %d, %v", n, got, r.Err())
		}
	})
}

func FuzzDurationMessage(f *testing.F) {
	f.Add(int64(1), int32(2))
	f.Add(int64(math.MaxInt64), int32(-1))
	f.Fuzz(func(t *testing.T, s int64, n int32) {
		var r Reader
		d := r.Duration("f", &durationpb.Duration{Seconds: s, Nanos: n})
		if r.Err() == nil && (int64(d/time.Second) != s || int64(d%time.Second) != int64(n)) {
			t.Fatalf("%d s %d ns became %v", s, n, d)
		}
	})
}

func TestQuietReleasesThatAreDoneAreNoAnswer(t *testing.T) {
	asked := []queue.Release{{ID: 1, Quiet: true}, {ID: 2, Quiet: true}, {ID: 3}}
	task := &queue.Task{ID: 3, Payload: []byte(`1`)}
	if got := Released(asked[:2], make([]queue.Released, 2), 1<<20); got != nil {
		t.Errorf("got %v", got)
	}
	for name, answers := range map[string][]queue.Released{
		"one that is not quiet": {{}, {}, {Task: task}}, "one that failed": {{}, {Err: queue.ErrLeaseLost}, {Task: task}},
	} {
		sent := Released(asked, answers, 1<<20)
		var r Reader
		got := r.Released(sent, len(asked))
		if len(sent) != 3 || len(got) != 3 || got[2].Task == nil || got[2].Task.ID != 3 || got[0].Task != nil || r.Err() != nil {
			t.Errorf("%s: got %v", name, sent)
			continue
		}
		for i := range got {
			if queue.KindOf(got[i].Err) != queue.KindOf(answers[i].Err) {
				t.Errorf("%s: answer %d is %v", name, i, got[i].Err)
			}
		}
	}
	var r Reader
	if got := r.Released(nil, 2); len(got) != 2 || got[0].Err != nil || got[1].Task != nil {
		t.Errorf("got %v", got)
	}
}

// Tasks share memory by the boxful; none may show through another.
func TestTasksOfOneMessageAreEachTheirOwn(t *testing.T) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	in := make([]*queue.Task, 2*boxes+1)
	for i := range in {
		in[i] = &queue.Task{ID: int64(i + 1), Queue: "q", CreatedAt: at.Add(time.Duration(i)), Status: queue.StatusNew}
		if i%2 == 0 {
			in[i].StartedAt, in[i].DiesAt = at.Add(time.Hour), at.Add(time.Duration(i)*time.Hour)
			in[i].Lease = &queue.Lease{Token: int64(i), ExpiresAt: at.Add(time.Minute), Duration: time.Duration(i)}
		}
	}
	var r Reader
	out := r.Tasks(Tasks(in))
	if r.Err() != nil || len(out) != len(in) {
		t.Fatal(len(out), r.Err())
	}
	for i := range in {
		if !reflect.DeepEqual(in[i], out[i]) {
			t.Errorf("task %d became %+v with %+v", i, out[i], out[i].Lease)
		}
	}
}
