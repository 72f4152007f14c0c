package cmdutil

import (
	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// Prepare reads the settings of cmd: flags before environment before configuration file before defaults.
func Prepare(f *factory.Factory, cmd *cobra.Command) error {
	if err := program.Environ(cmd.Flags(), f.Lookup); err != nil {
		return err
	}
	return f.Resolve(func(name string) bool { fl := cmd.Flags().Lookup(name); return fl != nil && fl.Changed })
}
