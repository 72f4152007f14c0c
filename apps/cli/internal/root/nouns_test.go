package root

import (
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
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
