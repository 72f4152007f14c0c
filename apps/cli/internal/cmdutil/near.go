package cmdutil

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// onlyCommands marks commands that only have commands below them.
const onlyCommands = "only-commands"

// Parent makes cmd a command that only has commands below it: alone it shows its help, and it refuses unknown words.
func Parent(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{onlyCommands: "yes"}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}

		return Usage("%s", describeUnknownCommand(cmd, args[0]))
	}

	return cmd
}

// OnlyCommands reports whether cmd is a Parent.
func OnlyCommands(cmd *cobra.Command) bool { return cmd.Annotations[onlyCommands] != "" }

// UsageTemplate is that of cobra without the usage line of a Parent, which does nothing by itself.
func UsageTemplate(template string) string {
	return strings.Replace(template, "{{if .Runnable}}", `{{if and .Runnable (not (index .Annotations "`+onlyCommands+`"))}}`, 1)
}

// describeUnknownCommand suggests the command below cmd that may have been meant.
func describeUnknownCommand(cmd *cobra.Command, name string) string {
	near := NearCommand(cmd, name)
	if !cmd.HasParent() {
		near = strings.TrimPrefix(near, cmd.Name()+" ")
	}
	return describeUnknown("command "+name, cmd.CommandPath(), near)
}

// NearCommand returns the path of the command below cmd that name may mean; "" when none is near.
func NearCommand(cmd *cobra.Command, name string) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
			if slices.Contains(c.SuggestFor, name) {
				return c.CommandPath()
			}
		}
	}

	if near := Nearest(name, names); near != "" {
		return cmd.CommandPath() + " " + near
	}

	return ""
}

// elsewhere maps flags of other programs to those with the same meaning here.
var elsewhere = map[string]string{
	"json": "--output json", "yaml": "--output yaml", "format": "--output", "port": "--addr", "listen": "--addr",
	"wait": "--timeout", "data": "--payload", "body": "--payload", "number": "--limit",
}

// UnknownFlag suggests the flag of cmd that may have been meant.
func UnknownFlag(cmd *cobra.Command, name string) string {
	shown := "--" + name
	if len(name) == 1 {
		shown = "-" + name
	}

	var names []string

	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})

	near := Nearest(name, names)
	if near != "" {
		near = "--" + near
	}

	if other := elsewhere[name]; other != "" && cmd.Flags().Lookup(strings.TrimPrefix(strings.Fields(other)[0], "--")) != nil {
		near = other
	}

	return describeUnknown("flag "+shown, cmd.CommandPath(), near)
}

func describeUnknown(what, path, near string) string {
	if near != "" {
		return "unknown " + what + "; did you mean " + near + "?"
	}
	return "unknown " + what + "; see " + path + " --help"
}

// Nearest returns the entry of names that is closest to name or begins with it; "" when none is close.
func Nearest(name string, names []string) string {
	// One letter may be wrong, and one more for each three of the name.
	best, least := "", 1+len(name)/3
	for _, n := range names {
		d := editDistance(name, n)
		// An unfinished name is as near as one with a wrong letter.
		if len(name) > 2 && strings.HasPrefix(n, name) {
			d = 1
		}

		if d <= least && (best == "" || d < least) {
			best, least = n, d
		}
	}

	return best
}

// editDistance returns the number of letters to change between a and b.
func editDistance(a, b string) int {
	// row is one row of Levenshtein's matrix: the distances of the beginning of a so far to each beginning of b.
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}

	for i := range len(a) {
		// last is the distance one letter before in both.
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}

			last = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}

	return row[len(b)]
}
