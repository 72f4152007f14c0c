package program

import (
	"strings"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The exit codes of every program of pgqueue.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNotFound    = 3 // not found, or an empty result
	ExitConflict    = 4 // conflict, or lease lost
	ExitUnreachable = 5
)

// ExitCode returns the exit code of a program for err.
func ExitCode(err error) int {
	switch queue.KindOf(err) {
	case "":
		return ExitDone
	case queue.KindInvalid, queue.KindTooLarge:
		return ExitUsage
	case queue.KindNotFound:
		return ExitNotFound
	case queue.KindAlreadyExists, queue.KindConflict, queue.KindLeaseLost, queue.KindKeyReused, queue.KindPrecondition,
		queue.KindExhausted:
		return ExitConflict
	case queue.KindUnavailable:
		return ExitUnreachable
	default:
		return ExitFailed
	}
}

// OneLine returns the text of err on one line, without control characters and without the secret parts of tokens: an error
// shows the given value, and a user may paste a token in its place.
func OneLine(err error) string {
	return access.HideSecrets(Clean(strings.Join(strings.Fields(err.Error()), " ")))
}
