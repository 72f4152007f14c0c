package cmdutil

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// RefuseMisspeltVariables refuses an environment variable that no program reads and that is near to one that cmd reads. A
// command with a misspelt PGQUEUE_NAMESPACE would work in another namespace.
func RefuseMisspeltVariables(f *factory.Factory, cmd *cobra.Command) error {
	if f.Environ == nil || cmd.Flags().Lookup("addr") != nil { // servers warn of every variable that nothing reads
		return nil
	}

	read := program.Variables(cmd.Flags())
	for i, name := range read { // the common beginning would make all of them near
		read[i] = strings.TrimPrefix(name, program.Prefix)
	}
	for _, name := range program.Unread(cmd.Flags(), f.Environ()) {
		if near := Nearest(strings.TrimPrefix(name, program.Prefix), read); near != "" {
			return Usage("%s: must be a variable that pgqueue reads; correct it to %s%s, or unset it", name, program.Prefix, near)
		}
	}

	return nil
}

// Prepare reads the settings of cmd: flags before environment before configuration file before defaults.
func Prepare(f *factory.Factory, cmd *cobra.Command) error {
	if err := program.Environ(cmd.Flags(), f.Lookup); err != nil {
		return err
	}
	return f.Resolve(func(name string) bool { fl := cmd.Flags().Lookup(name); return fl != nil && fl.Changed })
}
