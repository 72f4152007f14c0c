package queue

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The headers of a dead letter: where it comes from. A dead letter of a dead letter has those of the last failure.
const (
	deadLetterPrefix = "pgqueue-dead-letter-"

	HeaderDeadLetterQueue     = deadLetterPrefix + "queue"
	HeaderDeadLetterTask      = deadLetterPrefix + "task"
	HeaderDeadLetterAttempts  = deadLetterPrefix + "attempts"
	HeaderDeadLetterErrorKind = deadLetterPrefix + "error-kind" // absent without a kind
	// HeaderDeadLetterOmitted is the number of headers of the failed task that had no room; absent = none.
	HeaderDeadLetterOmitted = deadLetterPrefix + "omitted-headers"
)

// omittedRoom is the room for HeaderDeadLetterOmitted with a number of at most MaxHeaders.
const omittedRoom = len(HeaderDeadLetterOmitted) + 2

// MakeDeadLetter returns the task in the dead letter queue of q for a task of q that failed for good: payload, group and headers of
// the task with its origin in further headers. It has no key and no priority of its own. kind is that of the last error.
func (q *Queue) MakeDeadLetter(t *Task, kind string) NewTask {
	headers := map[string]string{
		HeaderDeadLetterQueue: q.Name, HeaderDeadLetterTask: strconv.FormatInt(t.ID, 10), HeaderDeadLetterAttempts: strconv.Itoa(t.Attempt),
	}
	if kind != "" {
		headers[HeaderDeadLetterErrorKind] = kind
	}
	fillHeaders(headers, t.Headers)

	n := NewTask{Queue: q.DeadLetter}
	n.Payload, n.Group, n.Headers = t.Payload, t.Group, headers
	return n
}

// fillHeaders adds the headers of a failed task as far as the limits leave room: those of traces first, then by name.
func fillHeaders(headers, of map[string]string) {
	bytes := 0
	for name, value := range headers {
		bytes += len(name) + len(value)
	}
	// A dead letter that fails again has the origin of its last failure; that of the first one goes.
	names := slices.DeleteFunc(slices.Collect(maps.Keys(of)), func(name string) bool { return strings.HasPrefix(name, deadLetterPrefix) })
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(rankHeader(a), rankHeader(b)), cmp.Compare(a, b))
	})

	omitted := 0
	for _, name := range names {
		size := len(name) + len(of[name])
		// One header and its bytes stay free for the count of those that are left out.
		if len(headers) >= MaxHeaders-1 || bytes+size+omittedRoom > MaxHeadersBytes {
			omitted++
			continue
		}
		headers[name] = of[name]
		bytes += size
	}
	if omitted > 0 {
		headers[HeaderDeadLetterOmitted] = strconv.Itoa(omitted)
	}
}

func rankHeader(name string) int {
	if name == "traceparent" || name == "tracestate" {
		return 0
	}
	return 1
}

// CheckDeadLetter refuses a dead letter queue that is not there, or that leads back to q. find returns a queue of the namespace of
// q, or KindNotFound.
func (q *Queue) CheckDeadLetter(find func(name string) (*Queue, error)) error {
	path := []string{q.Name}
	for at := q; at.DeadLetter != ""; {
		name := at.DeadLetter
		if slices.Contains(path, name) {
			return Invalid("dead_letter", fmt.Sprintf("must not lead back to the queue, got %.64q in the circle %.255s; choose another",
				q.DeadLetter, strings.Join(append(path, name), ", ")))
		}
		next, err := find(name)
		switch {
		case KindOf(err) == KindNotFound:
			return Invalid("dead_letter", fmt.Sprintf("must be a queue of the namespace, got %.64q; create the queue first", name))
		case err != nil:
			return err
		}
		path = append(path, name)
		at = next
	}
	return nil
}

// IsDeadLetterTarget returns the error of the deletion of a queue that the queue of returns its dead letters to.
func IsDeadLetterTarget(name, of string) error {
	return &Error{
		Kind: KindConflict, Subject: "queue " + name, Field: "dead_letter",
		Msg: fmt.Sprintf("the queue %.64q sends its dead letters here; change its dead_letter first", of),
	}
}
