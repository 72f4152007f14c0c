package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

type exportOptions struct {
	filter cmdutil.Filter
}

func newExportCommand(f *factory.Factory) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:         "export [FILE]",
		Annotations: cmdutil.Calls(queue.OpListTasks, "task export"),
		Short:       "Write tasks as NDJSON, the oldest first",
		Long: "Write tasks as NDJSON, a task a line, the oldest first, to a file or to stdout: import makes them again in their order.\n" +
			"Tasks in every status are written unless --status says which; import makes those that wait. An export to a file that\n" +
			"was interrupted is gone on with by the same command: until it is complete the file is called FILE.part.",
		Example: "  pgqueue export --queue mail --status failed failed.ndjson\n  pgqueue export | gzip >tasks.ndjson.gz",
		Args:    cmdutil.Args(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.checkPayloadRight(cmd.Context(), f); err != nil {
				return err
			}
			if len(args) == 0 || args[0] == "-" {
				return o.exportToStdout(cmd.Context(), f)
			}

			return o.exportToFile(cmd.Context(), f, args[0])
		},
	}

	o.filter.Flags(f, cmd)

	return cmd
}

// checkPayloadRight refuses the export of a caller without the right to payloads. Its file would look whole, and import would
// make the tasks again without their payloads.
func (o *exportOptions) checkPayloadRight(ctx context.Context, f *factory.Factory) error {
	admin, err := f.Admin()
	if err != nil {
		return err
	}
	call, cancel := f.Call(ctx)
	defer cancel()
	of := access.Question{Action: queue.ActionTaskPayload, Namespace: f.Settings.Namespace, Queue: o.filter.Domain().Queue}
	allowed, err := admin.Can(call, of)
	if err != nil || allowed {
		return err
	}
	return &queue.Error{
		Op: "export", Kind: queue.KindDenied, Subject: string(of.Action),
		Msg: "must be a right of the caller for all exported tasks, got one without it; use another token, or name a queue with --queue",
	}
}

// readPages calls write with each page behind cursor, and then keep with the next cursor.
func (o *exportOptions) readPages(ctx context.Context, f *factory.Factory, bar *progress, cursor string, w io.Writer, keep func(next string) error) (n int64, err error) {
	svc, err := f.Service()
	if err != nil {
		return 0, err
	}
	defer bar.clearProgress()

	for {
		// The oldest first: import makes the tasks again in their order.
		call, cancel := f.Call(ctx)
		page, err := svc.ListTasks(call, queue.TaskQuery{TaskFilter: o.filter.Domain(), OldestFirst: true, Page: queue.Page{Limit: queue.MaxPage, Cursor: cursor}})
		cancel()

		if err != nil {
			return n, err
		}

		var b []byte

		for _, t := range page.Tasks {
			if b, err = restapi.Append(b, restapi.TaskOf(t)); err != nil {
				return n, err
			}
			b = append(b, '\n')
		}

		if _, err := w.Write(b); err != nil {
			return n, err
		}

		n += int64(len(page.Tasks))
		bar.showPosition(n, page.Count, n)

		if cursor = page.Next; cursor == "" {
			return n, nil
		}

		if err := keep(cursor); err != nil {
			return n, err
		}
	}
}

func (o *exportOptions) exportToStdout(ctx context.Context, f *factory.Factory) error {
	bar := newProgressLine(f)
	// The bar would stand between the lines.
	bar.hidden = f.IO.OutTTY
	out := bufio.NewWriter(f.IO.Out)
	_, err := o.readPages(ctx, f, bar, "", out, func(string) error { return nil })
	return errors.Join(err, out.Flush())
}

// mark is the position of an export.
type mark struct {
	Cursor string `json:"cursor"`
	Offset int64  `json:"offset"`
	What   string `json:"what"` // filter of the export: another filter would mix tasks
}

func (o *exportOptions) exportToFile(ctx context.Context, f *factory.Factory, name string) error {
	part, marks := name+".part", name+".part.mark"
	if _, err := os.Stat(name); err == nil {
		return &queue.Error{Op: "export", Kind: queue.KindAlreadyExists, Subject: name, Msg: "the file exists; remove it, or choose another name"}
	}

	at := o.readResumeMark(f, marks)
	file, err := openPart(part, &at)
	if err != nil {
		return err
	}
	defer file.Close()

	if at.Offset > 0 {
		fmt.Fprintf(f.IO.Err, "pgqueue: export continues after %d bytes of %s\n", at.Offset, part)
	}

	n, err := o.readPages(ctx, f, newProgressLine(f), at.Cursor, file, func(next string) error {
		at.Cursor = next
		if at.Offset, err = file.Seek(0, io.SeekCurrent); err != nil {
			return err
		}
		return at.writeMark(marks)
	})

	if err != nil && at.Offset == 0 {
		// An empty part cannot be continued.
		return errors.Join(err, file.Close(), os.Remove(part))
	}

	if err != nil {
		fmt.Fprintln(f.IO.Err, "pgqueue: export stopped; the same command continues it")
		return err
	}

	if err := finishPart(file, name, marks); err != nil {
		return err
	}
	fmt.Fprintf(f.IO.Err, "%s written to %s\n", output.Count(n, "task"), name)
	return nil
}

// openPart opens the unfinished file of an export for writing at the mark. A file that is not that of the mark begins anew.
func openPart(part string, at *mark) (*os.File, error) {
	// Payloads may be private.
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, cmdutil.Usage("%v", err)
	}

	info, err := file.Stat()
	if err == nil && info.Size() < at.Offset {
		*at = mark{What: at.What}
	}
	if err == nil {
		err = file.Truncate(at.Offset)
	}
	if err == nil {
		_, err = file.Seek(at.Offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// writeMark stores the mark in a file. An interruption leaves the previous mark or this one.
func (m mark) writeMark(marks string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(marks+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(marks+".new", marks)
}

// finishPart renames the complete file of an export to name and removes its mark.
func finishPart(file *os.File, name, marks string) error {
	// The mark goes last, so that an interruption leaves a file that the same command continues.
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), name); err != nil {
		return err
	}
	if err := os.Remove(marks); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readResumeMark returns the position of an interrupted export with the same filter, else the beginning.
func (o *exportOptions) readResumeMark(f *factory.Factory, marks string) mark {
	what, err := json.Marshal([]any{"oldest first", f.Settings.URL, f.Settings.Namespace, o.filter.Domain()})
	if err != nil {
		return mark{}
	}

	// Eight bytes are enough to distinguish the filters of one user.
	sum := sha256.Sum256(what)
	fresh := mark{What: hex.EncodeToString(sum[:8])}
	b, err := os.ReadFile(marks)
	if err != nil {
		return fresh
	}

	var at mark

	if json.Unmarshal(b, &at) != nil || at.What != fresh.What {
		return fresh
	}

	return at
}
