package manager

import (
	"math/bits"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxRefused bounds the Store calls that fail while a batch is searched for the items at fault: 1,000 calls with 20 of them
// at fault take about 150.
const maxRefused = 256

// search looks for the calls of a batch whose items make the Store refuse the whole, by halves.
type search struct {
	calls     int // of the batch
	refused   int // Store calls so far
	succeeded bool
}

func (s *search) tried(err error) {
	if err != nil {
		s.refused++
	} else {
		s.succeeded = true
	}
}

// goesOn reports whether the halves are worth a try: the error may be of one item, and the search has not shown yet that it
// is of all. One item at fault refuses at most 1 + log2(calls) Store calls before another succeeds; when twice as many have
// been refused and none has succeeded, the Store itself is at fault and more calls would be a storm.
func (s *search) goesOn(err error) bool {
	switch fault[queue.KindOf(err)] {
	case faultItem:
		return s.refused < maxRefused
	case faultEither:
		return s.refused < maxRefused && (s.succeeded || s.refused < 2*(bits.Len(uint(s.calls))+1))
	case faultStore:
	}
	return false
}

// faults say whose an error of a Store call may be.
type faults uint8

const (
	faultStore  faults = iota // the Store's or the moment's: it comes again with the halves, or has changed something
	faultItem                 // an item's
	faultEither               // one cannot tell
)

// fault says of each kind of error whose it may be.
var fault = map[queue.Kind]faults{
	queue.KindInvalid: faultItem, queue.KindTooLarge: faultItem, queue.KindNotFound: faultItem, queue.KindAlreadyExists: faultItem,
	queue.KindConflict: faultItem, queue.KindLeaseLost: faultItem, queue.KindKeyReused: faultItem, queue.KindPrecondition: faultItem,
	queue.KindInternal:      faultEither,
	queue.KindCursorExpired: faultStore, queue.KindSlowReader: faultStore, queue.KindUnavailable: faultStore,
	queue.KindIndeterminate: faultStore, queue.KindDeadline: faultStore, queue.KindCanceled: faultStore, queue.KindDenied: faultStore,
}
