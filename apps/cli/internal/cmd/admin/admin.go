// Package admin has the commands for operators: migrate, doctor, version, completion.
package admin

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
)

// Commands returns the commands for operators.
func Commands(f *factory.Factory) []*cobra.Command {
	return append([]*cobra.Command{newVersionCommand(f), newCompletionCommand()}, append(databaseCommands(f), cellCommands(f)...)...)
}

func newVersionCommand(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Annotations: cmdutil.Reads(""),
		Short:       "Show the version",
		Example:     "  pgqueue version --jq .version",
		GroupID:     cmdutil.GroupOther,
		Args:        cmdutil.Args(0, 0, ""),

		RunE: func(*cobra.Command, []string) error {
			p, err := f.Printer()
			if err != nil {
				return err
			}

			if p.Human() {
				_, err := fmt.Fprintf(f.IO.Out, "pgqueue %s (%s, %s/%s)\n", f.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}

			return p.Value(struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{f.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
		},
	}
}

func newCompletionCommand() *cobra.Command {
	shells := map[string]func(*cobra.Command) error{
		"bash":       func(c *cobra.Command) error { return c.Root().GenBashCompletionV2(c.OutOrStdout(), true) },
		"zsh":        func(c *cobra.Command) error { return c.Root().GenZshCompletion(c.OutOrStdout()) },
		"fish":       func(c *cobra.Command) error { return c.Root().GenFishCompletion(c.OutOrStdout(), true) },
		"powershell": func(c *cobra.Command) error { return c.Root().GenPowerShellCompletionWithDesc(c.OutOrStdout()) },
	}

	return &cobra.Command{
		Use:         "completion SHELL",
		Annotations: cmdutil.Reads(""),
		Short:       "Write a completion script for bash, zsh, fish or powershell",
		Long: "Write a completion script for a shell. It completes commands, flags, and the names of queues, tickers and\n" +
			"namespaces as the server knows them at that moment.",
		Example: "  source <(pgqueue completion bash)\n" +
			"  pgqueue completion zsh >\"${fpath[1]}/_pgqueue\"\n" +
			"  pgqueue completion fish >~/.config/fish/completions/pgqueue.fish",
		GroupID:               cmdutil.GroupOther,
		Args:                  cmdutil.Args(1, 1, "a shell (bash, zsh, fish or powershell)"),
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		DisableFlagsInUseLine: true,

		RunE: func(cmd *cobra.Command, args []string) error {
			gen, ok := shells[args[0]]
			if !ok {
				return cmdutil.Usage("shell: must be bash, zsh, fish or powershell, got %q", args[0])
			}

			return gen(cmd)
		},
	}
}
