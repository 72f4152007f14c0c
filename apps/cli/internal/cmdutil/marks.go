package cmdutil

import "github.com/spf13/cobra"

// The annotations of a command that the root reads.
const (
	secondName = "second-name"
	onlyReads  = "only-reads"
)

// Reads returns the annotations of a command that changes nothing. second is its name with the noun first, as
// "queue list"; "" where it has none.
func Reads(second string) map[string]string {
	return map[string]string{secondName: second, onlyReads: "yes"}
}

// Changes returns the annotations of a command that may change something. second is as of Reads.
func Changes(second string) map[string]string { return map[string]string{secondName: second} }

// OnlyReads reports whether cmd changes nothing. A command without annotations may change something.
func OnlyReads(cmd *cobra.Command) bool { return cmd.Annotations[onlyReads] != "" }

// SecondName returns the name of cmd with the noun first. ok reports whether cmd has annotations.
func SecondName(cmd *cobra.Command) (name string, ok bool) {
	name, ok = cmd.Annotations[secondName]
	return name, ok
}
