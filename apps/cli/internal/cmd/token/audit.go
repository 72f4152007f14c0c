package token

import (
	"context"
	"fmt"
	"strconv"
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

func auditColumns(now time.Time) []output.Column[restapi.AuditEntry] {
	type row = restapi.AuditEntry
	return []output.Column[row]{
		{Head: "AT", Cell: func(e row) string { return output.Ago(e.At, now) }},
		{Head: "PRINCIPAL", Cell: func(e row) string { return output.Dash(output.Clean(e.PrincipalID)) }, Style: func(row) iostreams.Style { return iostreams.Bold }},
		{Head: "OPERATION", Cell: func(e row) string { return output.Dash(e.Operation) }},
		{Head: "ON", Cell: formatTarget},
		{Head: "OUTCOME", Cell: func(e row) string { return e.Outcome }},
		{Head: "CALLS", Right: true, Cell: func(e row) string { return strconv.Itoa(e.Calls) }},
		{Head: "MOVED", Right: true, Cell: formatMoved},
		{Head: "VIA", Wide: true, Cell: func(e row) string { return output.Dash(e.Via) }},
		{Head: "REMOTE", Wide: true, Cell: func(e row) string { return output.Dash(output.Clean(e.Remote)) }},
		{Head: "CHANGES", Wide: true, Cell: formatChanges},
		{Head: "FILTER", Wide: true, Cell: func(e row) string { return output.Dash(output.Clean(e.Filter)) }},
		{Head: "REASON", Cell: func(e row) string { return output.Dash(output.Clean(e.Reason)) }},
	}
}

// formatTarget returns the object of an entry for people.
func formatTarget(e restapi.AuditEntry) string {
	target := e.Namespace
	switch {
	case e.Token != "":
		target = "token " + e.Token
	case e.Task != 0:
		target += "/task " + strconv.FormatInt(e.Task, 10)
	case e.Ticker != "":
		target += "/ticker " + e.Ticker
	case e.Queue != "":
		target += "/" + e.Queue
	}
	return output.Dash(output.Clean(target))
}

// formatMoved returns how many tasks an entry moved; of a dry run, how many it would have moved.
func formatMoved(e restapi.AuditEntry) string {
	if e.DryRun {
		return fmt.Sprintf("0 (dry run: %d)", e.Matched)
	}
	return strconv.FormatInt(e.Moved, 10)
}

// formatChanges returns the changes of an entry for people.
func formatChanges(e restapi.AuditEntry) string {
	parts := make([]string, len(e.Changes))
	for i, c := range e.Changes {
		switch {
		case c.Old == "":
			parts[i] = fmt.Sprintf("%s=%s", c.Field, c.New)
		case c.New == "":
			parts[i] = fmt.Sprintf("%s was %s", c.Field, c.Old)
		default:
			parts[i] = fmt.Sprintf("%s %s->%s", c.Field, c.Old, c.New)
		}
	}
	return output.Dash(output.Clean(strings.Join(parts, ", ")))
}

func (c *commands) newAuditCommand() *cobra.Command {
	var f access.AuditFilter
	var action, of string
	cmd := c.run(&cobra.Command{
		Use: "audit", Annotations: cmdutil.Calls(queue.OpListAudit, ""),
		Long: "List the changes by operators, the changes of access and the refusals, newest first. Without --of it lists those of all\n" +
			"namespaces. The next page needs the cursor of the JSON as --cursor.",
		Example: "  pgqueue audit --outcome permission_denied\n  pgqueue audit --principal 4fJd8sKq --action task.operate -o wide\n  pgqueue audit --of billing --queue mail -o wide",
		Args:    cmdutil.Args(0, 0, ""),
	}, func(ctx context.Context, admin access.Admin, p *output.Printer, _ []string) error {
		f.Action, f.Namespace = queue.Action(action), of
		page, err := admin.ListAudit(ctx, f)
		if err != nil {
			return err
		}

		body := restapi.AuditPage{Body: make([]restapi.AuditEntry, len(page.Entries)), Next: page.Next}
		for i, e := range page.Entries {
			body.Body[i] = restapi.AuditEntryOf(e)
		}
		if !p.Human() {
			return p.Value(body)
		}
		list := restapi.List[restapi.AuditEntry]{Count: int64(len(body.Body)), Body: body.Body}
		return output.List(p, list, "no entries", auditColumns(c.f.Now()))
	})

	fs := cmd.Flags()
	fs.StringVar(&f.Principal, "principal", "", "only of the principal with this `id`")
	fs.StringVar(&action, "action", "", "only of this `right`, as task.operate")
	fs.StringVar(&of, "of", "", "only of this `namespace`")
	fs.StringVar(&f.Queue, "queue", "", "only of this `queue`")
	fs.StringVar(&f.Outcome, "outcome", "", "only with this `outcome`: ok, or the kind of an error, as permission_denied")
	cmdutil.LimitVar(fs, &f.Limit, "most entries, 1 to 1000 (default 100)")
	fs.StringVar(&f.Cursor, "cursor", "", "continue behind this `cursor`")
	return cmd
}
