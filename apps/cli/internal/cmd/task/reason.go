package task

import (
	"errors"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func exitCodeOf(err error) int { return program.ExitCode(err) }

// reasonOfError returns the text of an error without its operation and subject.
func reasonOfError(err error) string {
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Msg != "" {
		return e.Msg
	}
	return err.Error()
}
