package execrun

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/worker"
)

// Exit codes with a meaning of their own.
const (
	ExitDone = 0
	// ExitRetry is EX_TEMPFAIL of sysexits.h.
	ExitRetry     = 75
	ExitPermanent = 100
	// ExitNoExec and ExitNotFound are the shell's: the command cannot be executed, or is not there.
	ExitNoExec   = 126
	ExitNotFound = 127
)

// meaning is what an end of a command stands for.
type meaning int

const (
	// meansFailure: a failed attempt, tried again after the queue's backoff while retries last.
	meansFailure meaning = iota
	meansDone
	meansPermanent
	// meansMissing: the worker's own trouble when the command itself is not there; else a failure that others share.
	meansMissing
	// meansUnstarted: the worker's own trouble.
	meansUnstarted
)

// exits is the one table of what the end of a command means: the code that it ended with, what came instead of a code,
// and what docs/how-to/worker.md says of it. A code that is not in it is a failure.
var exits = []struct {
	code int // -1 = there is none
	when string
	mean meaning
	says string
}{
	{ExitDone, "0", meansDone, "is done; standard output is the result: JSON stays as it is, other text becomes `{\"text\": …}`"},
	{ExitRetry, "75", meansFailure, "is tried again after the queue's backoff, while retries last (EX_TEMPFAIL)"},
	{ExitPermanent, "100", meansPermanent, "failed, even with retries left"},
	{ExitNoExec, "126", meansMissing, "if the command itself is not executable: is handed back, costs no attempt; if a program inside it is not: as every other code, and after some in a row the worker pauses the queue"},
	{ExitNotFound, "127", meansMissing, "the same for a command that is not found"},
	{-1, "every other code, and the end by a signal, for example when memory runs out", meansFailure, "is tried again after the queue's backoff, while retries last"},
	{-1, "none: the process, its pipe or its folder could not be made", meansUnstarted, "is handed back, costs no attempt; the worker pauses the queue"},
}

// meaningOf is what an exit code means; -1 is a death by a signal.
func meaningOf(code int) meaning {
	for _, e := range exits {
		if e.code == code && code >= 0 {
			return e.mean
		}
	}
	return meansFailure
}

// Table is the table of ends in Markdown, for the documentation.
func Table() string {
	var b strings.Builder
	b.WriteString("| exit code | the task |\n|---|---|\n")
	for _, e := range exits {
		fmt.Fprintf(&b, "| %s | %s |\n", e.when, e.says)
	}
	return b.String()
}

// judge makes f the error that its exit code stands for.
func (c *Command) judge(f *Failure) error {
	switch meaningOf(f.Code) {
	case meansPermanent:
		return worker.Permanent(f)
	case meansMissing:
		if err := c.Check(); err != nil {
			return worker.NotStarted(err)
		}
		return worker.Systemic(f)
	case meansFailure, meansDone, meansUnstarted:
	}
	return f
}

// notStarted is the error of a command that no process could be started for. What is wrong with the command itself says
// more than the system's words, which name the shell when it is the folder that is missing.
func (c *Command) notStarted(err error) error {
	if bad := c.Check(); bad != nil {
		err = bad
	}
	return worker.NotStarted(fmt.Errorf("start the command: %w", err))
}

// firstWord is the program that a line runs; "" when only the shell can tell, as of `$TOOL x` or `cd x && y`.
func firstWord(line string) string {
	line = strings.TrimLeft(line, " \t\n")
	end := strings.IndexAny(line, " \t\n;&|<>()")
	if end < 0 {
		end = len(line)
	}
	word := line[:end]
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./+:@%,", r)
	}
	if !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return ""
}

// builtin says that a word is one that every shell knows by itself and that makes what follows the command.
func builtin(word string) bool {
	return slices.Contains([]string{"", ".", ":", "case", "cd", "eval", "exec", "for", "if", "set", "trap", "ulimit", "umask", "until", "while"}, word)
}
