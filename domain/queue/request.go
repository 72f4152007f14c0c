package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/retry"
)

// RequestTime is how long, at most, a retain with a request id can be repeated: for the shorter of this and its leases.
const RequestTime = 30 * time.Second

// MaxRequestIDBytes bounds a request id, in bytes of UTF-8.
const MaxRequestIDBytes = 255

// CheckRequestID checks the id of a repeatable retain; "" is none.
func CheckRequestID(s string) error {
	if len(s) > MaxRequestIDBytes {
		return Invalid("request_id", fmt.Sprintf("must have at most %d bytes, got %d", MaxRequestIDBytes, len(s)))
	}
	return checkStorableText("request_id", s)
}

// Arguments distinguishes retains under one request id: all that they ask for, but how long they wait.
func (r RetainRequest) Arguments() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %d %d %d", r.Queues, r.Limit, r.Lease, r.MaxBytes, r.MaxTaskBytes))
	return hex.EncodeToString(sum[:])
}

// RequestReused is the error of a retain with other arguments under an id that was used.
func RequestReused() error {
	return Invalid("request_id", "must not be used for a retain with other arguments; use a new one")
}

// UndeliveredRequests is the optional power of a Store to give back the tasks of retains with a request id: not at once, but
// when they can be repeated no more. Find it with StoreAs.
type UndeliveredRequests interface {
	// UndeliveredRequest notes that an answer of the request was not delivered. Tasks without a delivered answer go
	// back, at no cost of an attempt, when the request's time is over (ChoreRescue).
	UndeliveredRequest(ctx context.Context, namespace, worker, requestID string) error
}

// UndeliveredRetains is the same power of a Service. Find it with ServiceAs.
type UndeliveredRetains interface {
	UndeliveredRetain(ctx context.Context, worker, requestID string) error
}

// GiveBack takes care of tasks that were retained by r and not delivered: those of a request with an id stay for its repeat,
// others go back at once. It carries on when ctx is over.
func GiveBack(ctx context.Context, svc Service, r RetainRequest, tasks []*Task) error {
	u, ok := ServiceAs[UndeliveredRetains](svc)
	if r.RequestID == "" || !ok {
		return HandBack(ctx, svc, tasks)
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), HandBackTimeout)
	defer cancel()
	return RecordUndelivered(ctx, func(ctx context.Context) error { return u.UndeliveredRetain(ctx, r.Worker, r.RequestID) })
}

// RecordUndelivered calls record, and repeats it while a passing fault keeps it from its commit, until ctx ends. It does not
// repeat a KindIndeterminate: the record counts, and a second one could give tasks back that another answer delivered.
func RecordUndelivered(ctx context.Context, record func(context.Context) error) error {
	for pause := firstHandBackPause; ; pause = min(2*pause, mostHandBackPause) {
		err := record(ctx)
		if !isPassing(err) || !retry.Sleep(ctx, pause) {
			return err
		}
	}
}
