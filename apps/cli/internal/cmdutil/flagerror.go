package cmdutil

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// FlagError explains an error of a flag and suggests the flag that may have been meant.
func FlagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}

	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return Usage("%s", UnknownFlag(cmd, e.GetSpecifiedName()))
	}

	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return Usage("--%s: must have a value, got none", e.GetFlag().Name)
	}

	return program.FlagError(cmd, err)
}
