package root

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
)

// aliases are the names that kubectl and gh have for the verbs.
var aliases = map[string][]string{"list": {"ls"}, "view": {"get", "show"}, "delete": {"rm"}}

// addNouns adds the commands of second, under their second names, below the commands of flat that are named as the noun:
// "queue list" below "queue".
func addNouns(flat, second []*cobra.Command) {
	parents := map[string]*cobra.Command{}
	for _, c := range flat {
		parents[c.Name()] = c
	}

	for _, c := range second {
		name, _ := cmdutil.SecondName(c)
		noun, verb, ok := strings.Cut(name, " ")
		if !ok {
			continue
		}

		first, parent := c.Name(), parents[noun]
		c.Use = verb + strings.TrimPrefix(c.Use, first)
		c.Example = strings.ReplaceAll(c.Example, "pgqueue "+first, "pgqueue "+name)
		// The groups of the help belong to the root.
		c.GroupID = ""
		c.Aliases = aliases[verb]
		parent.AddCommand(c)

		if first == noun {
			parent.Long = parent.Short + ", or use a command for " + noun + "s: each one below is another name of one of pgqueue's.\n" +
				"A " + noun + " with the name of a command is shown by: pgqueue " + noun + " view."
		}
	}
}
