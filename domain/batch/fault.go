package batch

import (
	"math/bits"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Fault says where the error of a batch may come from.
type Fault uint8

const (
	// FaultService: from the service or the moment. It would come again with half of the items, or has changed something.
	FaultService Fault = iota
	// FaultItem: from one item.
	FaultItem
	// FaultUnknown: from either.
	FaultUnknown
)

var faults = map[queue.Kind]Fault{
	queue.KindInvalid:         FaultItem,
	queue.KindTooLarge:        FaultItem,
	queue.KindNotFound:        FaultItem,
	queue.KindAlreadyExists:   FaultItem,
	queue.KindConflict:        FaultItem,
	queue.KindLeaseLost:       FaultItem,
	queue.KindKeyReused:       FaultItem,
	queue.KindPrecondition:    FaultItem,
	queue.KindExhausted:       FaultItem,
	queue.KindInternal:        FaultUnknown,
	queue.KindCursorExpired:   FaultService,
	queue.KindSlowReader:      FaultService,
	queue.KindUnavailable:     FaultService,
	queue.KindIndeterminate:   FaultService,
	queue.KindDeadline:        FaultService,
	queue.KindCanceled:        FaultService,
	queue.KindDenied:          FaultService,
	queue.KindUnauthenticated: FaultService,
}

// FaultOf says by the kind of err where it may come from.
func FaultOf(err error) Fault { return faults[queue.KindOf(err)] }

// maxRefused bounds the failing commits of one search: a batch of 1,000 calls with 20 of them at fault takes about 150.
const maxRefused = 256

// faultSearch looks by halves for the items that make the service refuse a batch.
type faultSearch[Out any] struct {
	items     int // of the batch
	refused   int // commits so far
	succeeded bool
	added     []*call[Out] // items of Add, in the parts in which they were answered
}

func (s *faultSearch[Out]) recordCommit(err error) {
	if err == nil {
		s.succeeded = true
	} else {
		s.refused++
	}
}

// continues reports whether the halves are worth a commit after an error.
//
// One item at fault refuses at most 1 + log2(items) commits before another succeeds. After twice as many without any
// success the service itself is at fault, and more commits would be a storm.
func (s *faultSearch[Out]) continues(fault Fault) bool {
	if s.refused >= maxRefused {
		return false
	}

	switch fault {
	case FaultItem:
		return true
	case FaultUnknown:
		return s.succeeded || s.refused < 2*(bits.Len(uint(s.items))+1)
	case FaultService:
	}

	return false
}
