package admin

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
)

// OpenTokens returns the function that defines the flags of a database on a command of tokens. The function that this one
// returns opens the tokens of the database, or returns nil where none is named. A server that is named wins over a database
// of the environment, which is there for other commands.
func OpenTokens(f *factory.Factory) func(*cobra.Command) func(context.Context) (access.Tokens, func(), error) {
	return func(cmd *cobra.Command) func(context.Context) (access.Tokens, func(), error) {
		d := &database{}
		d.defineFlags(cmd.Flags())
		return func(ctx context.Context) (access.Tokens, func(), error) {
			ofEnvironment := func(name string) string {
				value, _ := f.Lookup(program.Variable(name))
				return value
			}
			named := d.URL != ofEnvironment("database-url") || d.dataDir != ofEnvironment("data-dir")
			switch {
			case d.URL == "" && d.dataDir == "":
				return nil, nil, nil
			case !named && cmd.Flags().Changed("url"):
				return nil, nil, nil
			}

			store, err := d.openStore(ctx, nil)
			if err != nil {
				return nil, nil, err
			}
			return store, store.Close, nil
		}
	}
}
