package token

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func sessionColumns(now time.Time) []output.Column[restapi.Session] {
	type row = restapi.Session
	return []output.Column[row]{
		{Head: "ID", Cell: func(s row) string { return s.ID }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "NAME", Cell: func(s row) string { return output.Clean(s.Name) }},
		{Head: "PRINCIPAL", Cell: func(s row) string { return output.Clean(s.PrincipalID) }},
		{Head: "GRANTS", Cell: func(s row) string { return strings.Join(s.Grants, " ") }},
		{Head: "SIGNED IN", Cell: func(s row) string { return output.Ago(s.CreatedAt, now) }},
		{Head: "USED", Cell: func(s row) string { return output.Ago(s.UsedAt, now) }},
		{Head: "EXPIRES", Cell: func(s row) string { return output.Ago(s.ExpiresAt, now) }},
		{Head: "KIND", Wide: true, Cell: func(s row) string { return s.Kind }},
	}
}

// runSessions makes the RunE of cmd. It passes the operations on the sessions of the server.
func (c *commands) runSessions(cmd *cobra.Command, do func(ctx context.Context, sessions access.SessionAdmin, p *output.Printer, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := c.f.Printer()
		if err != nil {
			return err
		}
		ctx, cancel := c.f.Call(cmd.Context())
		defer cancel()
		client, err := c.f.Settings.Server.DialREST(c.f.Settings.Timeout)
		if err != nil {
			return err
		}
		defer client.Close()
		return do(ctx, client, p, args)
	}
	return cmd
}

func (c *commands) newListSessionsCommand() *cobra.Command {
	return c.runSessions(&cobra.Command{
		Use: "sessions", Annotations: cmdutil.Calls(queue.OpListSessions, ""),
		Example: "  pgqueue sessions\n  pgqueue sessions --jq '.body[] | select(.name == \"Ann\") | .id'",
		Args:    cmdutil.Args(0, 0, ""),
	}, func(ctx context.Context, sessions access.SessionAdmin, p *output.Printer, _ []string) error {
		live, err := sessions.ListSessions(ctx)
		if err != nil {
			return err
		}

		list := restapi.List[restapi.Session]{Count: int64(len(live)), Body: make([]restapi.Session, len(live))}
		for i, s := range live {
			list.Body[i] = restapi.SessionOf(s)
		}
		return output.List(p, list, "no sessions; pgqueue dashboard opens one", sessionColumns(c.f.Now()))
	})
}

func (c *commands) newEndSessionCommand() *cobra.Command {
	return c.runSessions(&cobra.Command{
		Use: "end-session ID", Annotations: cmdutil.Calls(queue.OpEndSession, ""),
		Long:    "End a session of the dashboard. Every server refuses it within 10 s, and ends its open streams and waiting calls.",
		Example: "  pgqueue end-session 4fJd8sKq",
		Args:    cmdutil.Args(1, 1, "the id of a session"),
	}, func(ctx context.Context, sessions access.SessionAdmin, p *output.Printer, args []string) error {
		s, err := sessions.EndSession(ctx, args[0])
		if err != nil {
			return err
		}
		p.Done("session %s of %s is ended", s.ID, output.Clean(s.Name))
		if p.Human() {
			return nil
		}
		return p.Value(restapi.SessionOf(s))
	})
}
