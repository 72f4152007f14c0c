// Package configure has the commands of the configuration file.
package configure

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/config"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Commands returns the command config and those below it.
func Commands(f *factory.Factory) []*cobra.Command {
	cmd := cmdutil.Parent(&cobra.Command{
		Use:   "config COMMAND",
		Short: "Keep settings of several servers as named contexts",
		Long: "Keep settings of several servers as named contexts in a file, by default ~/.config/pgqueue/config.yaml.\n" +
			"A flag is stronger than its environment variable, and that is stronger than the file.",
		Example: "  pgqueue config set-context prod --url https://queue.example.org/api --namespace shop\n" +
			"  pgqueue config use-context prod\n  pgqueue tasks --context staging",
		GroupID: cmdutil.GroupOther,
	})

	cmd.AddCommand(newViewCommand(f), newContextsCommand(f), newUseContextCommand(f), newSetContextCommand(f), newDeleteContextCommand(f))
	return []*cobra.Command{cmd}
}

// changeConfiguration loads the file, changes it and saves it.
func changeConfiguration(f *factory.Factory, do func(*config.File) (string, error)) error {
	file, err := config.Load(f.Path())
	if err != nil {
		return err
	}

	if file.Contexts == nil {
		file.Contexts = map[string]config.Context{}
	}

	done, err := do(&file)
	if err != nil {
		return err
	}

	if err := file.Save(f.Path()); err != nil {
		return err
	}

	fmt.Fprintln(f.IO.Err, done)

	return nil
}

// skipServerSettings keeps the command from reading the context in use, which may be the one at fault. An empty flag
// removes a setting from a context.
func skipServerSettings(cmd *cobra.Command) *cobra.Command {
	cmd.PersistentPreRunE = func(_ *cobra.Command, args []string) error {
		return program.RefuseEmpty(pflag.NewFlagSet("", pflag.ContinueOnError), args)
	}
	return cmd
}

func newViewCommand(f *factory.Factory) *cobra.Command {
	return skipServerSettings(&cobra.Command{
		Use: "view", Short: "Show the configuration file, secrets redacted", Example: "  pgqueue config view -o json",
		Args: cmdutil.Args(0, 0, ""),

		RunE: func(*cobra.Command, []string) error {
			file, err := config.Load(f.Path())
			if err != nil {
				return err
			}

			// The file is YAML, so it is shown as such by default.
			format := f.Settings.Output
			if format == "" && f.Settings.JQ == "" {
				format = string(output.YAML)
			}

			p, err := output.New(f.IO, format, f.Settings.JQ)
			if err != nil {
				return err
			}

			return p.Value(file.Redacted())
		},
	})
}

type contextRow struct {
	Context   string `json:"context"`
	Current   bool   `json:"current"`
	URL       string `json:"url,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Protocol  string `json:"protocol,omitempty"`
}

func newContextsCommand(f *factory.Factory) *cobra.Command {
	return skipServerSettings(&cobra.Command{
		Use: "get-contexts", Short: "List the contexts", Example: "  pgqueue config get-contexts", Args: cmdutil.Args(0, 0, ""),

		RunE: func(*cobra.Command, []string) error {
			file, err := config.Load(f.Path())
			if err != nil {
				return err
			}

			p, err := f.Printer()
			if err != nil {
				return err
			}

			var rows []contextRow
			// A URL may have a password, and a terminal is often shared.
			file = file.Redacted()
			for _, name := range file.Names() {
				c := file.Contexts[name]
				rows = append(rows, contextRow{name, name == file.Current, c.URL, c.Namespace, c.Protocol})
			}

			return output.List(p, restapi.ListOf(rows), "no contexts; make one with: pgqueue config set-context NAME --url URL",
				[]output.Column[contextRow]{
					{Head: "", Cell: func(r contextRow) string {
						if r.Current {
							return "*"
						}

						return " "
					}},
					{Head: "CONTEXT", Cell: func(r contextRow) string { return r.Context }},
					{Head: "URL", Cell: func(r contextRow) string { return output.Dash(r.URL) }},
					{Head: "NAMESPACE", Cell: func(r contextRow) string { return output.Dash(r.Namespace) }},
					{Head: "PROTOCOL", Cell: func(r contextRow) string { return output.Dash(r.Protocol) }},
				})
		},
	})
}

// completeContextNames completes the names of contexts.
func completeContextNames(f *factory.Factory) cmdutil.Completer {
	return cmdutil.First(func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		file, err := config.Load(f.Path())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return file.Names(), cobra.ShellCompDirectiveNoFileComp
	})
}

func newUseContextCommand(f *factory.Factory) *cobra.Command {
	return skipServerSettings(&cobra.Command{
		Use: "use-context NAME", Short: "Make a context the current one", Example: "  pgqueue config use-context prod",
		Args: cmdutil.Args(1, 1, "a context's name"), ValidArgsFunction: completeContextNames(f),
		RunE: func(_ *cobra.Command, args []string) error {
			return changeConfiguration(f, func(file *config.File) (string, error) {
				_, err := file.Use(args[0])
				file.Current = args[0]
				return fmt.Sprintf("context %s is in use", args[0]), err
			})
		},
	})
}

func newSetContextCommand(f *factory.Factory) *cobra.Command {
	return skipServerSettings(&cobra.Command{
		Use:   "set-context NAME",
		Short: "Make a context, or change settings of one",
		Long: "Make a context of the flags --url, --namespace, --protocol, --output, --auth-token-file, --ca-file, --cert-file and --key-file,\n" +
			"or change those that are given. " +
			"The first context becomes the current one.",
		Example: "  pgqueue config set-context prod --url https://queue.example.org/api --namespace shop",
		Args:    cmdutil.Args(1, 1, "a context's name"), ValidArgsFunction: completeContextNames(f),

		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := queue.NamespaceName(args[0]); err != nil {
				return cmdutil.Usage("context: must have letters, digits, '_' and '-' alone, got %q", args[0])
			}

			return changeConfiguration(f, func(file *config.File) (string, error) {
				c := file.Contexts[args[0]]
				for _, v := range []struct {
					flag     string
					to, from *string
				}{
					{"url", &c.URL, &f.Settings.URL},
					{"namespace", &c.Namespace, &f.Settings.Namespace},
					{"protocol", &c.Protocol, &f.Settings.Protocol},
					{"output", &c.Output, &f.Settings.Output},
					{"auth-token-file", &c.TokenFile, &f.Settings.TokenFile},
					{"ca-file", &c.CAFile, &f.Settings.TLS.CAFile},
					{"cert-file", &c.CertFile, &f.Settings.TLS.CertFile},
					{"key-file", &c.KeyFile, &f.Settings.TLS.KeyFile},
				} {
					if cmd.Flags().Changed(v.flag) {
						*v.to = *v.from
					}
				}

				// A context is used in other folders too.
				for _, path := range []*string{&c.TokenFile, &c.CAFile, &c.CertFile, &c.KeyFile} {
					if *path == "" {
						continue
					}
					whole, err := filepath.Abs(*path)
					if err != nil {
						return "", err
					}
					*path = whole
				}

				file.Contexts[args[0]] = c
				if file.Current == "" {
					file.Current = args[0]
				}

				return fmt.Sprintf("context %s is set", args[0]), nil
			})
		},
	})
}

func newDeleteContextCommand(f *factory.Factory) *cobra.Command {
	return skipServerSettings(&cobra.Command{
		Use: "delete-context NAME", Short: "Delete a context", Example: "  pgqueue config delete-context staging",
		Args: cmdutil.Args(1, 1, "a context's name"), ValidArgsFunction: completeContextNames(f),
		RunE: func(_ *cobra.Command, args []string) error {
			return changeConfiguration(f, func(file *config.File) (string, error) {
				_, err := file.Use(args[0])
				delete(file.Contexts, args[0])
				if file.Current == args[0] {
					file.Current = ""
				}

				return fmt.Sprintf("context %s is deleted", args[0]), err
			})
		},
	})
}
