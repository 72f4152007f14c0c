package execrun

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// Exit codes with a special meaning.
const (
	ExitDone = 0
	// ExitRetry is EX_TEMPFAIL of sysexits.h.
	ExitRetry     = 75
	ExitPermanent = 100
	// ExitNoExec and ExitNotFound come from the shell: the command is not executable, or it is missing.
	ExitNoExec   = 126
	ExitNotFound = 127
)

// meaning is the meaning of the end of a command.
type meaning int

const (
	// meansFailure is a failed attempt, tried again after the queue's backoff while retries last.
	meansFailure meaning = iota
	meansDone
	meansPermanent
	// meansMissing is a fault of the worker if the command itself is missing, or else a failure that other tasks
	// share.
	meansMissing
	// meansUnstarted is a fault of the worker.
	meansUnstarted
)

// exits is the only table of ends of a command: its exit code or another end, and the text of docs/how-to/worker.md.
// A code outside the table is a failure.
var exits = []struct {
	code int // -1 = no exit code
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

// meaningOf returns the meaning of an exit code; -1 is an end by a signal.
func meaningOf(code int) meaning {
	for _, e := range exits {
		if e.code == code && code >= 0 {
			return e.mean
		}
	}
	return meansFailure
}

// Table returns the table of ends in Markdown, for the documentation.
func Table() string {
	var b strings.Builder
	b.WriteString("| exit code | the task |\n|---|---|\n")
	for _, e := range exits {
		fmt.Fprintf(&b, "| %s | %s |\n", e.when, e.says)
	}
	return b.String()
}

// ParseKinds reads kinds of errors from a list such as 65=invalid_input.
func ParseKinds(list []string) (map[int]string, error) {
	kinds := make(map[int]string, len(list))
	for _, s := range list {
		code, kind, _ := strings.Cut(s, "=")
		n, err := strconv.Atoi(strings.TrimSpace(code))
		kind = strings.TrimSpace(kind)
		switch {
		case err != nil || n <= ExitDone || n > maxExit || kind == "" || queue.CleanErrorKind(kind) != kind:
			return nil, queue.Invalid("exit-kinds", fmt.Sprintf(
				"must be exit codes from 1 to %d with a kind of at most %d bytes, as 65=invalid_input, got %.64q; correct it", maxExit, queue.MaxErrorKindBytes, s))
		case kinds[n] != "":
			return nil, queue.Invalid("exit-kinds", fmt.Sprintf("must name each exit code once, got %d twice; leave one out", n))
		}
		kinds[n] = kind
	}
	return kinds, nil
}

// maxExit is the largest exit code of a process.
const maxExit = 255

// judgeExitCode wraps f in the error that its exit code stands for.
func (c *Command) judgeExitCode(f *Failure) error {
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

// notStarted returns the error of a command that did not start. A fault of the command itself explains more than the
// text of the system, which names the shell even if the folder is missing.
func (c *Command) notStarted(err error) error {
	if bad := c.Check(); bad != nil {
		err = bad
	}
	return worker.NotStarted(fmt.Errorf("start the command: %w", err))
}

// firstWord returns the program that a line runs. It is "" if only the shell can determine it, as in `$TOOL x` or `cd
// x && y`.
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

// builtin reports whether every shell knows the word itself and runs the words after it.
func builtin(word string) bool {
	return slices.Contains([]string{"", ".", ":", "case", "cd", "eval", "exec", "for", "if", "set", "trap", "ulimit", "umask", "until", "while"}, word)
}
