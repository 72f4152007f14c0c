package root

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/internal/program/programtest"
)

func TestDurationsOfTheCommands(t *testing.T) {
	t.Parallel()
	newRoot := func() *cobra.Command {
		streams, _, _ := iostreams.Test("")
		root, _ := New(&factory.Factory{IO: streams, Version: "test"})
		return root
	}

	var tried []string
	each(newRoot(), func(c *cobra.Command) {
		var names []string
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "duration" {
				names = append(names, f.Name)
			}
		})

		// A command and its form with the noun first are defined once.
		if len(names) == 0 || slices.Contains(tried, c.Short) {
			return
		}
		tried = append(tried, c.Short)

		path := strings.Fields(c.CommandPath())[1:]
		programtest.Durations(t, func() *pflag.FlagSet {
			cmd, _, err := newRoot().Find(path)
			if err != nil {
				t.Fatal(err)
			}
			return cmd.LocalNonPersistentFlags()
		}, names, nil)
	})

	programtest.Durations(t, func() *pflag.FlagSet { return newRoot().PersistentFlags() }, []string{"timeout"}, nil)
	if len(tried) < 12 {
		t.Errorf("only %d commands were tried: %q", len(tried), tried)
	}
}
