package program

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Execute runs the command of a long-running program, in a child if this is process 1. It returns exitCode of the
// error. An error is one line on stderr.
func Execute(cmd *cobra.Command, args []string, stdout, stderr io.Writer, exitCode func(error) int) int {
	if code, done := Init(); done {
		// Init precedes the first output, which the child writes.
		return code
	}
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetFlagErrorFunc(FlagError)
	err := cmd.Execute()
	if err == nil {
		return ExitDone
	}

	// A failed write has no other place for its error.
	_, _ = fmt.Fprintln(stderr, cmd.Name()+":", OneLine(err))
	return exitCode(err)
}

// CheckFlag defines the flag with which a program checks the readiness of the running one.
func CheckFlag(fs *pflag.FlagSet, check *bool, program, addrFlag string) {
	fs.BoolVar(check, "check", false, "ask the "+program+" at --"+addrFlag+" whether it is ready, and end: 0 = it is, 5 = it is not")
}

// TakeRunningArgs sets fs to the arguments of the program that runs beside a check without other flags. They may name
// another address than the environment, which both share. Call it before Environ.
func TakeRunningArgs(fs *pflag.FlagSet) error {
	if fs.NFlag() > 1 {
		return nil
	}
	if err := fs.Parse(runningArgs()); err != nil {
		return queue.Invalid("arguments", fmt.Sprintf("must be those of the running program: %v; start it anew", err))
	}
	return nil
}
