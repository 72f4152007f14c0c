// Package apply has the command that brings queues and tickers to the state of a file.
package apply

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Command returns the command "apply".
func Command(f *factory.Factory) *cobra.Command {
	var file string
	var dryRun, diff, prune bool
	cmd := &cobra.Command{
		Use:         "apply -f FILE",
		GroupID:     cmdutil.GroupOther,
		Annotations: cmdutil.Changes(""),
		Short:       "Bring queues and tickers to the state of a file",
		Long: `Bring queues and tickers to the state of a file, in YAML or JSON:

  namespace: shop              # else that of --namespace
  queues:
    mail: {retries: 5, lease: 10m, fair: true, groups: {tenant-7: {weight: 4, concurrency: 2}}}
    reports: {}
  tickers:
    nightly: {cron: "0 3 * * *", timezone: Europe/Berlin, queue: reports, payload: {kind: nightly}}

The fields have the names of REST. A field that is left out gets its default; only paused, and paused_until of a group, stay as
they are. --prune deletes what the file leaves out: queues where it has the field queues, even an empty one, tickers where it has
tickers, and the settings of groups of a queue with groups. Documents for several namespaces are separated by a line of three dashes. The whole file and the rights of the caller are checked before the first change. A change fails when
something else has changed the same queue or ticker meanwhile; run the command again then. --prune keeps a queue that gets a task
meanwhile, says so, and fails after the other changes.`,
		Example: "  pgqueue apply -f queues.yaml --dry-run --diff\n  pgqueue apply -f queues.yaml\n  pgqueue apply -f queues.yaml --prune",
		Args:    cmdutil.Args(0, 0, "", "-f"),

		RunE: f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, _ []string) error {
			all, err := openDefinitions(f, file, svc.Namespace())
			if err != nil {
				return err
			}
			// The whole plan before the first change, so that a fault of the file changes nothing.
			plan, err := planChanges(ctx, svc, all, prune, f.Now())
			if err != nil {
				return err
			}

			if !dryRun {
				admin, err := f.Admin()
				if err != nil {
					return err
				}
				if err := checkRights(ctx, admin, plan); err != nil {
					return err
				}
				if err := applyPlan(ctx, plan); err != nil {
					return err
				}
			}
			if err := printPlan(p, plan, dryRun, diff); err != nil {
				return err
			}
			return findKept(plan)
		}),
	}

	fs := cmd.Flags()
	fs.StringVarP(&file, "file", "f", "", "`file` of definitions; - = standard input")
	fs.BoolVar(&dryRun, "dry-run", false, "show the changes and make none")
	fs.BoolVar(&diff, "diff", false, "show the values before and after")
	fs.BoolVar(&prune, "prune", false, "delete the queues and tickers that the file leaves out; a queue with unfinished tasks is refused")
	_ = cmd.MarkFlagRequired("file")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml", "json")
	return cmd
}

// openDefinitions reads the definitions of a file or of standard input.
func openDefinitions(f *factory.Factory, file, namespace string) ([]definition, error) {
	if file == "-" {
		return readDefinitions("standard input", f.IO.In, namespace)
	}
	from, err := os.Open(file)
	if err != nil {
		return nil, queue.Invalid("file", fmt.Sprintf("must be a file that can be read, got %.64q (%v); correct the path", file, err))
	}
	defer from.Close()
	return readDefinitions(file, io.Reader(from), namespace)
}

// countDone says how many changes were made before a failure.
func countDone(plan []change) string {
	done := 0
	for _, c := range plan {
		if c.do != nil {
			done++
		}
	}
	if done == 1 {
		return "1 change"
	}
	return fmt.Sprintf("%d changes", done)
}

// printPlan writes the changes; for people those that change something, in JSON all.
func printPlan(p *output.Printer, plan []change, dryRun, diff bool) error {
	list := restapi.List[change]{Count: int64(len(plan)), Body: plan}
	if p.Human() {
		list.Body = slices.DeleteFunc(slices.Clone(plan), func(c change) bool { return c.Action == actionNone })
	}

	columns := []output.Column[change]{
		{Head: "NAMESPACE", Wide: true, Cell: func(c change) string { return c.Namespace }},
		{Head: "ACTION", Cell: func(c change) string { return c.Action }},
		{Head: "KIND", Cell: func(c change) string { return c.Kind }},
		{Head: "NAME", Cell: func(c change) string { return c.Name }},
		{Head: "FIELDS", Cell: func(c change) string { return describeFields(c.Fields, diff) + c.Reason }},
	}
	none := "nothing to change"
	if err := output.List(p, list, none, columns); err != nil {
		return err
	}
	if changed := len(list.Body); p.Human() && changed > 0 && !dryRun {
		p.Done("%s made", countDone(plan))
	}
	return nil
}

// describeFields names the changed fields, with diff also their values.
func describeFields(fields []fieldChange, diff bool) string {
	var b strings.Builder
	for i, c := range fields {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Field)
		if diff {
			fmt.Fprintf(&b, " %.64s -> %.64s", orNone(c.From), orNone(c.To))
		}
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
