package wire

import (
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// enum maps the words D of the domain to the numbers P of the wire. The empty word is 0.
type enum[D ~string, P ~int32] struct {
	numbers map[D]P
	words   map[P]D
}

func newWordEnum[D ~string, P ~int32](words map[P]D) enum[D, P] {
	e := enum[D, P]{numbers: make(map[D]P, len(words)), words: words}
	for p, d := range words {
		e.numbers[d] = p
	}
	return e
}

// unknown is the number of a word without a number on the wire. No enum uses it.
const unknown = -1

// numberOfWord returns the number of d. An unknown word becomes an unknown number, which the domain of the receiver
// refuses.
func (e enum[D, P]) numberOfWord(d D) P {
	if d == "" {
		return 0
	}
	if p, ok := e.numbers[d]; ok {
		return p
	}
	return unknown
}

// wordOfNumber returns the word of p. An unknown number becomes a word that the domain refuses.
func (e enum[D, P]) wordOfNumber(p P) D {
	if p == 0 {
		return ""
	}
	// A newer peer may know words that this program does not.
	if d, ok := e.words[p]; ok {
		return d
	}
	return D(fmt.Sprintf("number %d", p))
}

func (e enum[D, P]) optionalNumber(d *D) *P {
	if d == nil {
		return nil
	}
	return new(e.numberOfWord(*d))
}

func (e enum[D, P]) optionalWord(p *P) *D {
	if p == nil {
		return nil
	}
	return new(e.wordOfNumber(*p))
}

func (e enum[D, P]) numbersOfWords(ds []D) []P {
	if len(ds) == 0 {
		return nil
	}
	out := make([]P, len(ds))
	for i, d := range ds {
		out[i] = e.numberOfWord(d)
		if d == "" {
			// In a list the empty word is an error, not an absent value.
			out[i] = unknown
		}
	}
	return out
}

func (e enum[D, P]) wordsOfNumbers(ps []P) []D {
	if len(ps) == 0 {
		return nil
	}
	out := make([]D, len(ps))
	for i, p := range ps {
		out[i] = e.wordOfNumber(p)
	}
	return out
}

// The words of the domain with their numbers.
var (
	statuses = newWordEnum(map[pb.Status]queue.Status{
		pb.Status_STATUS_NEW:       queue.StatusNew,
		pb.Status_STATUS_RETRY:     queue.StatusRetry,
		pb.Status_STATUS_RETAINED:  queue.StatusRetained,
		pb.Status_STATUS_RELEASED:  queue.StatusReleased,
		pb.Status_STATUS_FAILED:    queue.StatusFailed,
		pb.Status_STATUS_EXPIRED:   queue.StatusExpired,
		pb.Status_STATUS_CANCELLED: queue.StatusCancelled,
	})
	outcomes = newWordEnum(map[pb.Outcome]queue.Outcome{
		pb.Outcome_OUTCOME_SUCCESS:   queue.OutcomeSuccess,
		pb.Outcome_OUTCOME_FAILURE:   queue.OutcomeFailure,
		pb.Outcome_OUTCOME_PERMANENT: queue.OutcomePermanent,
		pb.Outcome_OUTCOME_HANDBACK:  queue.OutcomeHandBack,
		pb.Outcome_OUTCOME_SNOOZE:    queue.OutcomeSnooze,
	})
	scopes = newWordEnum(map[pb.Scope]queue.Scope{
		pb.Scope_SCOPE_TASK:  queue.ScopeTask,
		pb.Scope_SCOPE_GROUP: queue.ScopeGroup,
		pb.Scope_SCOPE_QUEUE: queue.ScopeQueue,
	})
	conflicts = newWordEnum(map[pb.OnConflict]queue.OnConflict{
		pb.OnConflict_ON_CONFLICT_RETURN:  queue.ConflictReturn,
		pb.OnConflict_ON_CONFLICT_REJECT:  queue.ConflictReject,
		pb.OnConflict_ON_CONFLICT_REPLACE: queue.ConflictReplace,
	})
	uniqueEnds = newWordEnum(map[pb.UniqueUntil]queue.UniqueUntil{
		pb.UniqueUntil_UNIQUE_UNTIL_STARTED:  queue.UniqueUntilStarted,
		pb.UniqueUntil_UNIQUE_UNTIL_FINISHED: queue.UniqueUntilFinished,
		pb.UniqueUntil_UNIQUE_UNTIL_PRUNED:   queue.UniqueUntilPruned,
	})
	orders = newWordEnum(map[pb.Order]queue.Order{
		pb.Order_ORDER_NONE: queue.OrderNone,
		pb.Order_ORDER_FIFO: queue.OrderFIFO,
	})
	groupFailures = newWordEnum(map[pb.GroupOnFailure]queue.GroupOnFailure{
		pb.GroupOnFailure_GROUP_ON_FAILURE_SKIP:  queue.GroupSkip,
		pb.GroupOnFailure_GROUP_ON_FAILURE_BLOCK: queue.GroupBlock,
	})
	backoffs = newWordEnum(map[pb.Backoff]queue.Backoff{
		pb.Backoff_BACKOFF_EXPONENTIAL: queue.BackoffExponential,
		pb.Backoff_BACKOFF_LINEAR:      queue.BackoffLinear,
		pb.Backoff_BACKOFF_CONSTANT:    queue.BackoffConstant,
	})
	historySteps = newWordEnum(map[pb.HistoryStep]queue.HistoryStep{
		pb.HistoryStep_HISTORY_STEP_MINUTE: queue.HistoryMinute,
		pb.HistoryStep_HISTORY_STEP_HOUR:   queue.HistoryHour,
	})
	misfires = newWordEnum(map[pb.Misfire]queue.Misfire{
		pb.Misfire_MISFIRE_SKIP: queue.MisfireSkip,
		pb.Misfire_MISFIRE_ONCE: queue.MisfireOnce,
		pb.Misfire_MISFIRE_ALL:  queue.MisfireAll,
	})
	overlaps = newWordEnum(map[pb.Overlap]queue.Overlap{
		pb.Overlap_OVERLAP_ALLOW: queue.OverlapAllow,
		pb.Overlap_OVERLAP_SKIP:  queue.OverlapSkip,
	})
	eventKinds = newWordEnum(map[pb.EventKind]queue.EventKind{
		pb.EventKind_EVENT_KIND_CREATED:     queue.EventCreated,
		pb.EventKind_EVENT_KIND_RETAINED:    queue.EventRetained,
		pb.EventKind_EVENT_KIND_RELEASED:    queue.EventReleased,
		pb.EventKind_EVENT_KIND_RETRY:       queue.EventRetry,
		pb.EventKind_EVENT_KIND_FAILED:      queue.EventFailed,
		pb.EventKind_EVENT_KIND_EXPIRED:     queue.EventExpired,
		pb.EventKind_EVENT_KIND_CANCELLED:   queue.EventCancelled,
		pb.EventKind_EVENT_KIND_RETURNED:    queue.EventReturned,
		pb.EventKind_EVENT_KIND_REVIVED:     queue.EventRevived,
		pb.EventKind_EVENT_KIND_PROGRESS:    queue.EventProgress,
		pb.EventKind_EVENT_KIND_QUARANTINED: queue.EventQuarantined,
	})
)
