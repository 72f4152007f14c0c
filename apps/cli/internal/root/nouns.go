package root

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// nouns is the grouping by what a command is about: "task list" beside "tasks". Each is another name of a command.
var nouns = []struct {
	noun  string
	verbs [][2]string // and the command
}{
	{"queue", [][2]string{
		{"list", "queues"},
		{"view", "queue"},
		{"create", "create-queue"},
		{"update", "update-queue"},
		{"delete", "delete-queue"},
		{"pause", "pause-queue"},
		{"resume", "resume-queue"},
		{"clean", "clean-queue"},
		{"stats", "stats"},
	}},
	{"task", [][2]string{
		{"list", "tasks"},
		{"view", "task"},
		{"create", "create-task"},
		{"retain", "retain-task"},
		{"complete", "complete-task"},
		{"heartbeat", "heartbeat-task"},
		{"snooze", "snooze-task"},
		{"handback", "handback-task"},
		{"await", "await-task"},
		{"cancel", "cancel-task"},
		{"retry", "retry-task"},
		{"delete", "delete-task"},
		{"import", "import"},
		{"export", "export"},
		{"events", "events"},
	}},
	{"ticker", [][2]string{
		{"list", "tickers"},
		{"view", "ticker"},
		{"create", "create-ticker"},
		{"update", "update-ticker"},
		{"delete", "delete-ticker"},
		{"next", "next-ticker"},
		{"preview", "preview-ticker"},
		{"run", "run-ticker"},
		{"ticks", "ticks"},
	}},
}

// aliases are what the verbs are called by kubectl and gh.
var aliases = map[string][]string{"list": {"ls"}, "view": {"get", "show"}, "delete": {"rm"}}

// addNouns puts the second commands, by the names of nouns, below those of the first that are called like a noun.
func addNouns(first, second []*cobra.Command) {
	named := func(all []*cobra.Command, name string) *cobra.Command {
		return all[slices.IndexFunc(all, func(c *cobra.Command) bool { return c.Name() == name })]
	}

	for _, n := range nouns {
		parent := named(first, n.noun)
		parent.Long = parent.Short + ", or say what to do with " + n.noun + "s: each command below is another name of one of pgqueue's.\n" +
			"What is called as one of them is shown by: pgqueue " + n.noun + " view."
		for _, v := range n.verbs {
			verb, flat := v[0], v[1]
			c := named(second, flat)
			c.Use = verb + strings.TrimPrefix(c.Use, flat)
			c.Example = strings.ReplaceAll(c.Example, "pgqueue "+flat, "pgqueue "+n.noun+" "+verb)
			c.GroupID = ""
			c.Aliases = aliases[verb]
			parent.AddCommand(c)
		}
	}
}
