// Package token has the commands of tokens and rights.
package token

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Commands returns the commands of tokens and rights. open connects to a database; a command uses it where the database is
// given.
func Commands(f *factory.Factory, open Opener) []*cobra.Command {
	c := &commands{f: f, open: open}
	all := []*cobra.Command{
		c.newListCommand(), c.newCreateCommand(), c.newRotateCommand(), c.newRevokeCommand(), c.newWhoAmICommand(), c.newCanCommand(),
		c.newAuditCommand(), c.newDashboardCommand(), c.newListSessionsCommand(), c.newEndSessionCommand(), newGenerateCommand(f),
	}
	for _, cmd := range all {
		cmd.GroupID = cmdutil.GroupServer
	}
	return all
}

// Opener defines the flags of a database on cmd. The function that it returns opens the store of tokens of that database, or
// returns nil when no flag names one.
type Opener func(cmd *cobra.Command) func(ctx context.Context) (tokens access.Tokens, closeStore func(), err error)

// commands makes the commands, which share their way to the tokens.
type commands struct {
	f    *factory.Factory
	open Opener
}

// run makes the RunE of cmd. It passes the operations on the tokens of the server, or of the database that a flag names, where
// the caller has every right.
func (c *commands) run(cmd *cobra.Command, do func(ctx context.Context, admin access.Admin, p *output.Printer, args []string) error) *cobra.Command {
	open := c.open(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := c.f.Printer()
		if err != nil {
			return err
		}
		ctx, cancel := c.f.Call(cmd.Context())
		defer cancel()

		tokens, closeStore, err := open(ctx)
		if err != nil {
			return err
		}
		if tokens != nil {
			defer closeStore()
			admin, audit := newDirectAdmin(tokens, c.f.IO.Err)
			defer audit.Close(ctx)
			ctx = access.WithCaller(access.With(ctx, access.Owner()), access.Caller{Via: access.ViaCLI})
			return do(ctx, admin, p, args)
		}

		admin, err := c.f.Admin()
		if err != nil {
			return err
		}
		return do(ctx, admin, p, args)
	}
	return cmd
}

// formatState returns the state of a token for people.
func formatState(t restapi.Token) string {
	switch {
	case t.Live:
		return "live"
	case !t.RevokedAt.IsZero():
		return "revoked"
	}
	return "expired"
}

func tokenColumns(now time.Time) []output.Column[restapi.Token] {
	type row = restapi.Token
	return []output.Column[row]{
		{Head: "ID", Cell: func(t row) string { return t.ID }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "NAME", Cell: func(t row) string { return output.Clean(t.Name) }},
		{Head: "GRANTS", Cell: func(t row) string { return strings.Join(t.Grants, " ") }},
		{Head: "STATE", Cell: formatState},
		{Head: "EXPIRES", Cell: func(t row) string { return formatExpiry(t.ExpiresAt, now) }},
		{Head: "USED", Cell: func(t row) string { return output.Ago(t.UsedAt, now) }},
		{Head: "CREATED BY", Wide: true, Cell: func(t row) string { return output.Clean(t.CreatedBy) }},
		{Head: "CREATED", Wide: true, Cell: func(t row) string { return output.Ago(t.CreatedAt, now) }},
		{Head: "REPLACES", Wide: true, Cell: func(t row) string { return output.Dash(t.Replaces) }},
	}
}

func formatExpiry(at, now time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return output.Ago(at, now)
}

func (c *commands) newListCommand() *cobra.Command {
	return c.run(&cobra.Command{
		Use: "tokens", Annotations: cmdutil.Calls(queue.OpListTokens, ""),
		Example: "  pgqueue tokens\n  pgqueue tokens --database-url postgres://app@db.example.org/app",
		Args:    cmdutil.Args(0, 0, ""),
	}, func(ctx context.Context, admin access.Admin, p *output.Printer, _ []string) error {
		tokens, err := admin.ListTokens(ctx)
		if err != nil {
			return err
		}

		list := restapi.List[restapi.Token]{Count: int64(len(tokens))}
		for _, t := range tokens {
			list.Body = append(list.Body, restapi.TokenOf(t))
		}
		return output.List(p, list, "no tokens; make one with: pgqueue create-token NAME --grant ROLE@NAMESPACE", tokenColumns(c.f.Now()))
	})
}

func (c *commands) newCreateCommand() *cobra.Command {
	var request access.TokenRequest
	var expires string
	cmd := c.run(&cobra.Command{
		Use: "create-token NAME", Annotations: cmdutil.Calls(queue.OpCreateToken, ""),
		Long: "Create a token, and show it once. A grant is ROLE@NAMESPACE or ROLE@NAMESPACE/QUEUE; a * stands for all namespaces, or ends\n" +
			"the start of queue names. Roles: producer, worker, observer, viewer, operator, admin, system, metrics.\n" +
			"The first token of an open server closes it and must have system@*. To write it into the database directly, give --database-url,\n" +
			"or --data-dir for the PostgreSQL that a running pgqueue run has started by itself.",
		Example: "  pgqueue create-token admin --grant 'system@*'\n" +
			"  pgqueue create-token 'mail workers' --grant 'worker@default/mail*' --expires 30d\n" +
			"  pgqueue create-token admin --grant 'system@*' --database-url postgres://app@db.example.org/app\n" +
			"  pgqueue create-token admin --grant 'system@*' --data-dir ./data",
		Args: cmdutil.Args(1, 1, "a name for people"),
	}, func(ctx context.Context, admin access.Admin, p *output.Printer, args []string) error {
		request.Name = args[0]
		if request.Never = expires == "never"; !request.Never && expires != "" {
			life, err := program.ParseDuration(expires)
			if err != nil {
				return cmdutil.Usage("--expires: must be a time such as 30d, or never, got %.64q; choose another", expires)
			}
			if life == 0 {
				return cmdutil.Usage("--expires: must be 1m to 3650d, or never, got %.64q; leave it out for 90d", expires)
			}
			request.Life = life
		}
		issued, err := admin.CreateToken(ctx, request)
		return c.printSecret(p, issued, err)
	})
	cmd.Flags().StringArrayVar(&request.Grants, "grant", nil, "a `right`, as worker@default; may be repeated (needed)")
	cmd.Flags().StringVar(&expires, "expires", "", "the `time` until it expires, as 30d, or never (default 90d)")
	return cmd
}

// printSecret shows a new token: on a terminal with its settings, elsewhere as JSON.
func (c *commands) printSecret(p *output.Printer, issued access.IssuedToken, err error) error {
	if err != nil {
		return err
	}
	t := restapi.IssuedTokenOf(issued)
	if err := output.One(p, t, func() []output.Field {
		return []output.Field{
			{Name: "token", Value: t.Secret, Style: iostreams.Bold},
			{Name: "id", Value: t.ID},
			{Name: "name", Value: output.Clean(t.Name)},
			{Name: "grants", Value: strings.Join(t.Grants, " ")},
			{Name: "expires", Value: formatExpiry(t.ExpiresAt, c.f.Now())},
			{Name: "replaces", Value: output.Dash(t.Replaces)},
		}
	}); err != nil {
		return err
	}
	p.Done("token %s created; this is the only time that it is shown", t.ID)
	return nil
}

func (c *commands) newRotateCommand() *cobra.Command {
	rotation := access.Rotation{Overlap: access.DefaultOverlap}
	cmd := c.run(&cobra.Command{
		Use: "rotate-token ID", Annotations: cmdutil.Calls(queue.OpRotateToken, ""),
		Example: "  pgqueue rotate-token 4fJd8sKq --overlap 1h",
		Args:    cmdutil.Args(1, 1, "the id of a token"),
	}, func(ctx context.Context, admin access.Admin, p *output.Printer, args []string) error {
		issued, err := admin.RotateToken(ctx, args[0], rotation)
		return c.printSecret(p, issued, err)
	})
	program.DurationVar(cmd.Flags(), &rotation.Overlap, "overlap", "how long the former token stays valid")
	return cmd
}

func (c *commands) newRevokeCommand() *cobra.Command {
	return c.run(&cobra.Command{
		Use: "revoke-token ID", Annotations: cmdutil.Calls(queue.OpRevokeToken, ""),
		Long:    "Revoke a token at once. Every server refuses it within 10 s, and ends its open streams and waiting calls.",
		Example: "  pgqueue revoke-token 4fJd8sKq",
		Args:    cmdutil.Args(1, 1, "the id of a token"),
	}, func(ctx context.Context, admin access.Admin, p *output.Printer, args []string) error {
		t, err := admin.RevokeToken(ctx, args[0])
		if err != nil {
			return err
		}
		p.Done("token %s is %s", t.ID, formatState(restapi.TokenOf(t)))
		if p.Human() {
			return nil
		}
		return p.Value(restapi.TokenOf(t))
	})
}

func (c *commands) newWhoAmICommand() *cobra.Command {
	return c.run(&cobra.Command{
		Use: "whoami", Annotations: cmdutil.Calls(queue.OpWhoAmI, ""),
		Example: "  pgqueue whoami --jq .id",
		Args:    cmdutil.Args(0, 0, ""),
	}, func(ctx context.Context, admin access.Admin, p *output.Printer, _ []string) error {
		identity, err := admin.WhoAmI(ctx)
		if err != nil {
			return err
		}
		i := restapi.IdentityOf(identity)
		return output.One(p, i, func() []output.Field {
			return []output.Field{
				{Name: "id", Value: i.ID, Style: iostreams.Bold},
				{Name: "name", Value: output.Clean(i.Name)},
				{Name: "kind", Value: i.Kind},
				{Name: "grants", Value: strings.Join(i.Grants, " ")},
			}
		})
	})
}

func (c *commands) newCanCommand() *cobra.Command {
	return c.run(&cobra.Command{
		Use: "can ACTION [NAMESPACE[/QUEUE]]", Annotations: cmdutil.Calls(queue.OpCan, ""),
		Long: "Show whether the caller has a right, as yes or no. The exit code of yes is 0 and that of no is 3; without an answer it is\n" +
			"another one. Without a queue it asks for the namespace as a whole, and without a namespace for that of the settings.\n" +
			"The rights: " + listActions() + ".",
		Example: "  pgqueue can task.create\n  pgqueue can task.work billing/mail",
		Args:    cmdutil.Args(1, 2, "an action, and a namespace with a queue"),
	}, func(ctx context.Context, admin access.Admin, p *output.Printer, args []string) error {
		q := access.Question{Action: queue.Action(args[0]), Namespace: c.f.Settings.Namespace}
		if len(args) > 1 {
			namespace, name, hasQueue := strings.Cut(args[1], "/")
			if namespace == "" || hasQueue && name == "" {
				return cmdutil.Usage("namespace: must be NAMESPACE or NAMESPACE/QUEUE, got %.64q; leave it out for the present one", args[1])
			}
			q.Namespace, q.Queue = namespace, name
		}

		allowed, err := admin.Can(ctx, q)
		if e, ok := errors.AsType[*queue.Error](err); ok && e.Kind == queue.KindNotFound && e.Subject != restapi.SubjectRoute {
			err = &queue.Error{Op: queue.OpCan.String(), Kind: queue.KindInternal, Msg: err.Error(), Err: err} // its exit code is that of no
		}
		if err != nil {
			return err
		}
		if p.Human() {
			_, err = fmt.Fprintln(c.f.IO.Out, strings.ToLower(output.YesNo(allowed)))
		} else {
			err = p.Value(restapi.Decision{Allowed: allowed})
		}
		if err == nil && !allowed {
			return &cmdutil.Exit{Code: program.ExitNotFound}
		}
		return err
	})
}

// listActions lists the actions for the help, in lines of its width.
func listActions() string {
	var text strings.Builder
	width := len("The rights: ")
	for i, action := range access.Actions() {
		word := string(action)
		if i > 0 {
			if width+len(word) > 110 {
				text.WriteString(",\n")
				width = 0
			} else {
				text.WriteString(", ")
			}
		}
		text.WriteString(word)
		width += len(word) + 2
	}
	return text.String()
}

func newGenerateCommand(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use: "generate-token", Annotations: cmdutil.Reads(""),
		Short: "Print a new token for --admin-token-file; no server knows it yet",
		Example: "  (umask 077; pgqueue generate-token >/etc/pgqueue/admin-token)\n" +
			"  pgqueue run --addr :8080 --admin-token-file /etc/pgqueue/admin-token",
		Args: cmdutil.Args(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if _, err := f.Printer(); err != nil {
				return err
			}
			_, err := fmt.Fprintln(f.IO.Out, access.NewSecret().Reveal())
			return err
		},
	}
}
