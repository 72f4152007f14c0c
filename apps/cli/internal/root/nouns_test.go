package root

import (
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestNewCommandsAreComplete names the place that a new command has forgotten.
func TestNewCommandsAreComplete(t *testing.T) {
	nouns := map[string]string{cmdutil.GroupQueues: "queue", cmdutil.GroupTasks: "task", cmdutil.GroupTickers: "ticker"}
	for _, c := range newCommands(factory.New("test")) {
		second, marked := cmdutil.SecondName(c)
		noun := nouns[c.GroupID]
		switch {
		case cmdutil.OnlyCommands(c), slices.Contains([]string{"bench"}, c.Name()):
		case !marked:
			t.Errorf("%s: Annotations: must be cmdutil.Reads or cmdutil.Changes, got none", c.Name())
		case noun != "" && c.Name() != "namespaces" && second == "":
			t.Errorf("%s: Annotations: must have a second name that begins with %q, got none", c.Name(), noun)
		}
		if c.GroupID == "" || c.Short == "" || c.Example == "" {
			t.Errorf("%s: GroupID, Short and Example: must be set", c.Name())
		}
	}
}

// withoutCommand has the operations that no command calls by itself, and why.
var withoutCommand = map[queue.Op]string{
	queue.OpRegisterQueue:    "for programs; create-queue and update-queue do its parts",
	queue.OpRegisterTicker:   "for programs; create-ticker and update-ticker do its parts",
	queue.OpCleanQueueWithin: "one step of clean-queue",
	queue.OpExplainQueue:     "why --queue",
	queue.OpQueueStats:       "stats with the name of a queue",
	queue.OpListEvents:       "events --follow=false",
	queue.OpLastEvent:        "events begins there by itself",
}

func TestEachOperationHasACommand(t *testing.T) {
	commands := map[queue.Op]string{}
	for _, c := range newCommands(factory.New("test")) {
		commands[cmdutil.Operation(c)] = c.Name()
	}

	for _, op := range slices.Concat(queue.ServiceOps(), queue.AdminOps()) {
		method := op.Operation().Method
		switch name, reason := commands[op], withoutCommand[op]; {
		case name == "" && reason == "":
			t.Errorf("%s: must have a command with the annotations cmdutil.Calls(queue.Op%s, …), got none", method, method)
		case name != "" && reason != "":
			t.Errorf("%s: withoutCommand must not name it, because %s calls it", method, name)
		}
	}
}
