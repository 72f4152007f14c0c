package cmdutil

import (
	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The annotations of a command that the root reads.
const (
	secondName = "second-name"
	onlyReads  = "only-reads"
	operation  = "operation"
)

// Calls returns the annotations of a command that calls op, as the table of operations has it. second is as of Reads.
func Calls(op queue.Op, second string) map[string]string {
	marks := map[string]string{secondName: second, operation: op.Operation().Method}
	// A command that follows a stream can be run again.
	if op.Reads() || op.Operation().Cost == queue.CostStream {
		marks[onlyReads] = "yes"
	}
	return marks
}

// Operation returns the operation that cmd calls; 0 for a command that calls none, or several.
func Operation(cmd *cobra.Command) queue.Op {
	for _, op := range queue.Ops() {
		if op.Operation().Method == cmd.Annotations[operation] {
			return op
		}
	}
	return 0
}

// Reads returns the annotations of a command of no operation that changes nothing. second is its name with the noun first, as
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
