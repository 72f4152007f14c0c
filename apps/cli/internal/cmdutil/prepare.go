package cmdutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// RefuseMisspeltVariables refuses an environment variable that no program reads and that is near to one that cmd reads. A
// command with a misspelt PGQUEUE_NAMESPACE would work in another namespace. It warns of a variable that no command
// reads.
func RefuseMisspeltVariables(f *factory.Factory, cmd *cobra.Command) error {
	// A command with --addr is a server, which warns of every variable that nothing reads.
	if f.Environ == nil || cmd.Flags().Lookup("addr") != nil {
		return nil
	}

	read := program.Variables(cmd.Flags())
	// The common beginning would make all of them near.
	for i, name := range read {
		read[i] = strings.TrimPrefix(name, program.Prefix)
	}
	others := readByCommands(cmd.Root())
	for _, name := range program.Unread(cmd.Flags(), f.Environ()) {
		if near := Nearest(strings.TrimPrefix(name, program.Prefix), read); near != "" {
			return Usage("variables: must be variables that pgqueue reads, got %s; correct it to %s%s, or unset it", name, program.Prefix, near)
		}
		if !slices.Contains(others, name) {
			fmt.Fprintf(f.IO.Err, "pgqueue: no setting is read from the variable %s\n", output.Clean(name))
		}
	}

	return nil
}

// readByCommands returns the variables that cmd and the commands below it read.
func readByCommands(cmd *cobra.Command) []string {
	names := program.Variables(cmd.Flags())
	for _, sub := range cmd.Commands() {
		names = append(names, readByCommands(sub)...)
	}
	return names
}

// clientFlags name a server and the form of an answer. Every command accepts them.
var clientFlags = []string{"url", "auth-token", "auth-token-file", "protocol", "ca-file", "cert-file", "key-file"}

// refuseClientFlags refuses flags of clients for a command that works on a database, where they would have no effect.
func refuseClientFlags(cmd *cobra.Command) error {
	db := cmd.Flags().Lookup("database-url")
	if db == nil || Operation(cmd) != 0 && !db.Changed {
		// A command of an operation works on a server, unless a flag names a database.
		return nil
	}
	for _, name := range clientFlags {
		if cmd.Flags().Changed(name) {
			return Usage("--%s: must come with a client of a server, got it with %s, which works on a database; leave it out, or give --database-url", name, cmd.CommandPath())
		}
	}
	return nil
}

// checkConfigFile refuses a file of --config that does not exist: its settings would silently be missing. One command
// creates the file.
func checkConfigFile(f *factory.Factory, cmd *cobra.Command) error {
	path := f.Settings.ConfigPath
	if path == "" || cmd.Name() == "set-context" {
		return nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Usage("--config: must be a file that exists, got %.128q; create it with pgqueue config set-context", path)
	}
	return nil
}

// Prepare reads the settings of cmd: flags before environment before configuration file before defaults.
func Prepare(f *factory.Factory, cmd *cobra.Command) error {
	if err := refuseClientFlags(cmd); err != nil {
		return err
	}
	if err := program.Environ(cmd.Flags(), f.Lookup); err != nil {
		return err
	}
	if err := checkConfigFile(f, cmd); err != nil {
		return err
	}
	return f.Resolve(func(name string) bool { fl := cmd.Flags().Lookup(name); return fl != nil && fl.Changed })
}
