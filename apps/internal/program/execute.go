package program

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Execute runs the command of a program that runs for long, as a child when it is process 1, and returns the exit code
// that exitCode gives its error. An error is one line on stderr.
func Execute(cmd *cobra.Command, args []string, stdout, stderr io.Writer, exitCode func(error) int) int {
	if code, done := Init(); done { // before anything is written: the child writes it
		return code
	}
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return queue.Invalid("", err.Error()) })
	err := cmd.Execute()
	if err == nil {
		return ExitDone
	}

	_, _ = fmt.Fprintln(stderr, cmd.Name()+":", OneLine(err)) // nothing is left to report to
	return exitCode(err)
}

// CheckFlag defines the flag of a program that asks the running one whether it is ready.
func CheckFlag(fs *pflag.FlagSet, check *bool, program, addrFlag string) {
	fs.BoolVar(check, "check", false, "ask the "+program+" at --"+addrFlag+" whether it is ready, and end: 0 = it is, 5 = it is not")
}

// TakeRunningArgs gives fs, when a check was given nothing else, the arguments of the program that runs beside it: they
// may name another address than the environment that both have. Call it before Environ.
func TakeRunningArgs(fs *pflag.FlagSet) error {
	if fs.NFlag() > 1 {
		return nil
	}
	if err := fs.Parse(RunningArgs()); err != nil {
		return queue.Invalid("", "the arguments of the running program: "+err.Error())
	}
	return nil
}
