package program

import (
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The exit codes of every program of pgqueue.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNotFound    = 3 // not found, or nothing there
	ExitConflict    = 4 // conflict, or lease lost
	ExitUnreachable = 5
)

// ExitCode is how a program ends because of err.
func ExitCode(err error) int {
	switch queue.KindOf(err) {
	case "":
		return ExitDone
	case queue.KindInvalid, queue.KindTooLarge:
		return ExitUsage
	case queue.KindNotFound:
		return ExitNotFound
	case queue.KindAlreadyExists, queue.KindConflict, queue.KindLeaseLost, queue.KindKeyReused, queue.KindPrecondition:
		return ExitConflict
	case queue.KindUnavailable:
		return ExitUnreachable
	default:
		return ExitFailed
	}
}

// OneLine is err's text on one line, harmless to a terminal.
func OneLine(err error) string { return Clean(strings.Join(strings.Fields(err.Error()), " ")) }
