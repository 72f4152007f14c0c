package wire

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Reader converts messages to nouns of the domain and keeps the first fault. The zero value is ready for use. It is
// not safe for concurrent use.
type Reader struct{ err error }

// Err returns the first fault, a *queue.Error of KindInvalid with the name of the field.
func (r *Reader) Err() error { return r.err }

func (r *Reader) recordFault(field, msg string) {
	if r.err == nil {
		r.err = queue.Invalid(field, msg)
	}
}

// RequireKnown refuses fields of m that this server does not know, as one of a newer client: without it the request would select
// more than its caller says. It does not look into the messages in m. Binary protobuf keeps such fields; JSON refuses them.
func (r *Reader) RequireKnown(field string, m proto.Message) {
	if unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown)
		r.recordFault(field, fmt.Sprintf("must have only fields that this server knows, got field number %d; upgrade the server", number))
	}
}

// readElement runs read for item i of the list field, so that a fault names its place.
func (r *Reader) readElement(field string, i int, read func()) {
	if r.err != nil {
		return
	}
	read()
	if r.err != nil {
		r.err = queue.At(fmt.Sprintf("%s[%d]", field, i), r.err)
	}
}

// Duration returns d, or 0 if absent.
func (r *Reader) Duration(field string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	// AsDuration saturates, so a changed value means that d did not fit.
	v := d.AsDuration()
	if d.CheckValid() != nil || int64(v/time.Second) != d.GetSeconds() || int64(v%time.Second) != int64(d.GetNanos()) {
		r.recordFault(field, fmt.Sprintf("must be a duration from 0 to 10 years, got %d s", d.GetSeconds()))
	}
	return v
}

func (r *Reader) optionalDuration(field string, d *durationpb.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	return new(r.Duration(field, d))
}

// Time returns t in UTC, or the zero time if absent.
func (r *Reader) Time(field string, t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	if t.CheckValid() != nil {
		r.recordFault(field, fmt.Sprintf("must be a time from 1 to 9999 AD, got %d s after 1970", t.GetSeconds()))
		return time.Time{}
	}
	return t.AsTime()
}

// readFilterTime returns t of a filter as Time does, and refuses a stated zero time.
func (r *Reader) readFilterTime(field string, t *timestamppb.Timestamp) time.Time {
	v := r.Time(field, t)
	if t != nil && r.err == nil {
		r.err = queue.CheckGivenTime(field, v)
	}
	return v
}

// Int returns n if the int of the platform can hold it.
func (r *Reader) Int(field string, n int64) int {
	if n < math.MinInt || n > math.MaxInt {
		r.recordFault(field, fmt.Sprintf("must be a number from %d to %d, got %d", math.MinInt, math.MaxInt, n))
		return 0
	}
	return int(n)
}

func (r *Reader) optionalInt(field string, n *int64) *int {
	if n == nil {
		return nil
	}
	return new(r.Int(field, *n))
}

func (r *Reader) readInt16(field string, n int32) int16 {
	if n < math.MinInt16 || n > math.MaxInt16 {
		r.recordFault(field, fmt.Sprintf("must be a number from %d to %d, got %d", math.MinInt16, math.MaxInt16, n))
		return 0
	}
	return int16(n)
}

// Duration converts d for the wire; 0 becomes absent.
func Duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func optionalDuration(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}

// Time converts t for the wire; the zero time becomes absent.
func Time(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func optionalInt(n *int) *int64 {
	if n == nil {
		return nil
	}
	return new(int64(*n))
}

// Each converts every item of in with f; nil stays nil.
func Each[A, B any](in []A, f func(A) B) []B {
	if in == nil {
		return nil
	}
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}
