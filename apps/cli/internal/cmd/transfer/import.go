// Package transfer has the commands import and export.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Commands returns the commands import and export.
func Commands(f *factory.Factory) []*cobra.Command {
	return cmdutil.InGroup(cmdutil.GroupTasks, newImportCommand(f), newExportCommand(f))
}

// maxBatchBytes bounds the payloads of one call, so that a batch of large ones stays below what a server reads.
const maxBatchBytes = 8 << 20

// Summary counts the lines of an import.
type Summary struct {
	Lines   int `json:"lines"`
	Created int `json:"created"`
	// Replayed lines had made their task before.
	Replayed int `json:"replayed"`
	Skipped  int `json:"skipped"`
	// NotWaiting counts, by status, the lines of tasks that were held or had ended. They make no task.
	NotWaiting map[queue.Status]int64 `json:"not_waiting,omitempty"`
}

type importOptions struct {
	queue    string
	payloads bool
	onError  string
	label    string
	noKeys   bool
	any      bool
	batch    int
	parallel int
}

func newImportCommand(f *factory.Factory) *cobra.Command {
	o := importOptions{onError: "stop", batch: 5000, parallel: 1}
	cmd := &cobra.Command{
		Use:         "import FILE",
		Annotations: cmdutil.Calls(queue.OpCreateTasks, "task import"),
		Short:       "Create a task of each line of an NDJSON file",
		Long: "Create a task of each line of an NDJSON file, or of stdin with -. A line is a task as export writes it, or less:\n" +
			"{\"queue\":\"mail\",\"payload\":{},\"priority\":0,\"delay\":\"1h\",\"key\":\"k\",\"headers\":{}}; with --payloads a line is a payload.\n\n" +
			"The tasks have the order of the lines. Only waiting tasks are imported: a line of a task that was held or had ended\n" +
			"makes none, so that no work is done again, unless --any-status asks for it.\n\n" +
			"The same command continues an interrupted import: a line without a key gets one from the file's path (or --label),\n" +
			"the line's number and its text, so that it makes one task while that task is there.",
		Example: "  pgqueue import tasks.ndjson\n" +
			"  pgqueue import mails.ndjson --queue mail --payloads --on-error skip\n" +
			"  zcat dump.gz | pgqueue import - --label dump-2026-01-02",
		Args: cmdutil.Args(1, 1, "a file (or - for stdin)"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.importTasks(cmd.Context(), f, args[0]) },
	}

	fs := cmd.Flags()
	fs.StringVar(&o.queue, "queue", "", "put all tasks into this `queue`")
	fs.BoolVar(&o.payloads, "payloads", false, "each line as a whole is a payload; needs --queue")
	fs.StringVar(&o.onError, "on-error", o.onError, "at a line that is at fault: `stop` or skip")
	fs.StringVar(&o.label, "label", "", "`name` of what is imported, for the keys (default: the file's path; stdin has none)")
	fs.BoolVar(&o.noKeys, "no-keys", false, "make no keys: each run makes all tasks again")
	fs.IntVar(&o.batch, "batch", o.batch, "tasks in a call")
	fs.IntVar(&o.parallel, "parallel", o.parallel, "calls under way at once; above 1 tasks of different calls may change places")
	fs.BoolVar(&o.any, "any-status", false, "make tasks also of exported ones that were held or had ended")
	_ = cmd.RegisterFlagCompletionFunc("queue", cmdutil.QueueNames(f))
	_ = cmd.RegisterFlagCompletionFunc("on-error", cmdutil.Fixed("stop", "skip"))

	return cmd
}

func (o *importOptions) checkOptions() error {
	switch {
	case o.onError != "stop" && o.onError != "skip":
		return cmdutil.Usage("--on-error: must be stop or skip, got %q", o.onError)
	case o.payloads && o.queue == "":
		return cmdutil.Usage("--payloads: must come with --queue; name the queue of the tasks")
	case o.noKeys && o.label != "":
		return cmdutil.Usage("--label: must not come with --no-keys; leave one out")
	}

	if err := queue.CheckInt("--batch", o.batch, 1, queue.MaxBatch); err != nil {
		return err
	}

	return queue.CheckInt("--parallel", o.parallel, 1, 100)
}

func (o *importOptions) importTasks(ctx context.Context, f *factory.Factory, name string) error {
	if err := o.checkOptions(); err != nil {
		return err
	}

	in, size, err := o.openInput(f, name)
	if err != nil {
		return err
	}
	defer in.Close()
	svc, p, err := f.Both()
	if err != nil {
		return err
	}

	// stdin without --label has no name that a second run would share, so its lines get no keys.
	r := newLineReader(cmdutil.Text(in))
	r.queue, r.payloads, r.any, r.now = o.queue, o.payloads, o.any, f.Now()
	if !o.noKeys {
		r.label = o.label
	}

	im := &importer{o: o, f: f, svc: svc, progress: newProgressLine(f), size: size}
	err = im.importAll(ctx, r)
	im.progress.clearProgress()
	// The senders have ended, so no lock is needed.
	im.sum.Lines, im.sum.NotWaiting = r.line, r.left
	if p.Human() {
		text := output.Count(im.sum.Created, "task") + " created"
		if im.sum.Replayed > 0 {
			text += fmt.Sprintf(", %d were there from before", im.sum.Replayed)
		}

		if im.sum.Skipped > 0 {
			text += ", " + output.Count(im.sum.Skipped, "line") + " skipped"
		}

		if len(r.left) > 0 {
			text += ", " + describeLeftOut(r.left)
		}

		fmt.Fprintln(f.IO.Out, text)
	} else if outErr := p.Value(im.sum); outErr != nil {
		return outErr
	}

	switch {
	case err != nil:
		if hint := im.explainRepeat(err, r.label != ""); hint != "" {
			fmt.Fprintln(f.IO.Err, "pgqueue: import stopped; "+hint)
		}

		return err

	case im.sum.Skipped > 0:
		return &cmdutil.Exit{Code: program.ExitFailed}
	}

	return nil
}

// describeLeftOut counts the lines that made no task, because their tasks did not wait.
func describeLeftOut(left map[queue.Status]int64) string {
	var parts []string
	total := int64(0)
	for _, s := range queue.Statuses() {
		if n := left[s]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}

	return fmt.Sprintf("%s left out, as they did not wait (%s); --any-status takes them too", output.Count(total, "line"), strings.Join(parts, ", "))
}

// explainRepeat explains how to continue after err. The same command is the remedy only where it does not end at the same
// line again.
func (im *importer) explainRepeat(err error, keys bool) string {
	_, isLine := errors.AsType[*lineError](err)
	switch {
	case isLine && keys:
		return "mend the line, or give --on-error skip; the same command then makes what is missing"
	case keys && im.sum.Created+im.sum.Replayed > 0:
		return "the same command continues it"
	}

	return ""
}

// openInput opens the file and returns its size in bytes, 0 where that is unknown.
func (o *importOptions) openInput(f *factory.Factory, name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(f.IO.In), 0, nil
	}

	file, err := os.Open(name)
	if err != nil {
		return nil, 0, cmdutil.Usage("%v", err)
	}

	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("file: must be a file, got the folder %.64q; name a file in it", name)
	}

	if err == nil && o.label == "" && !o.noKeys {
		o.label, err = filepath.Abs(name)
	}

	if err != nil {
		file.Close()
		return nil, 0, cmdutil.Usage("%v", err)
	}

	if !info.Mode().IsRegular() {
		return file, 0, nil
	}

	return file, info.Size(), nil
}

// importer sends batches, several at once.
type importer struct {
	o        *importOptions
	f        *factory.Factory
	svc      queue.Service
	progress *progress
	size     int64

	mu   sync.Mutex
	sum  Summary
	done int64 // bytes of the file with created tasks
	err  error // the first
}

// batch holds tasks and their lines.
type batch struct {
	tasks []queue.NewTask
	lines []int
	bytes int
	end   int64 // of the file, behind it
}

// importAll sends all lines, or those before the first line at fault.
func (im *importer) importAll(ctx context.Context, r *reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := make(chan batch)
	var senders sync.WaitGroup

	// The first failure ends the other senders and the reader.
	for range im.o.parallel {
		senders.Go(func() {
			for b := range work {
				if err := im.sendBatch(ctx, b); err != nil {
					im.recordFailure(err)
					cancel()
				}
			}
		})
	}

	readErr := im.gatherBatches(ctx, r, work)
	close(work)
	senders.Wait()

	// The error of a sender caused the error of the reader.
	if im.err != nil {
		return im.err
	}

	return readErr
}

func (im *importer) recordFailure(err error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.err == nil {
		im.err = err
	}
}

// gatherBatches gathers lines into batches. The lines before a line at fault are sent.
func (im *importer) gatherBatches(ctx context.Context, r *reader, work chan<- batch) error {
	var b batch
	flush := func() error {
		if len(b.tasks) == 0 {
			return nil
		}

		b.end = r.bytes
		select {
		case work <- b:
			b = batch{}
			return nil

		case <-ctx.Done():
			return &queue.Error{Op: "import", Kind: queue.KindCanceled, Err: ctx.Err()}
		}
	}

	for {
		t, err := r.readLine()
		bad, isLine := errors.AsType[*lineError](err)
		switch {
		case errors.Is(err, io.EOF):
			return flush()
		case isLine && im.o.onError == "skip":
			im.recordSkipped(bad)
			continue

		case err != nil:
			// The valid lines before the wrong one are created.
			if ferr := flush(); ferr != nil {
				return ferr
			}

			return &queue.Error{Op: "import", Kind: queue.KindInvalid, Err: err}
		}

		b.tasks, b.lines, b.bytes = append(b.tasks, t), append(b.lines, r.line), b.bytes+len(t.Payload)
		if len(b.tasks) == im.o.batch || b.bytes >= maxBatchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

func (im *importer) recordSkipped(e *lineError) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.sum.Skipped++
	im.progress.clearProgress()
	fmt.Fprintf(im.f.IO.Err, "pgqueue: import: skipped %s\n", output.Clean(e.Error()))
}

// sendBatch creates a batch. Where the server finds a task at fault, sendBatch creates those before it, and skips or
// reports that task. A batch is all or nothing, so no task is created twice.
func (im *importer) sendBatch(ctx context.Context, b batch) error {
	for len(b.tasks) > 0 {
		made, err := im.svc.CreateTasks(ctx, b.tasks)
		if err == nil {
			im.addOutcomes(made, b.end)
			return nil
		}

		i := indexOfFault(err, len(b.tasks))
		if i < 0 {
			return err
		}

		if i > 0 {
			// The server has created none of the batch, so the tasks before the wrong one go again.
			made, err := im.svc.CreateTasks(ctx, b.tasks[:i])
			if err != nil {
				return err
			}

			im.addOutcomes(made, 0)
		}

		bad := &lineError{b.lines[i], err}
		if im.o.onError != "skip" {
			return &queue.Error{Op: "import", Kind: queue.KindOf(err), Err: bad}
		}

		im.recordSkipped(bad)
		b.tasks, b.lines = b.tasks[i+1:], b.lines[i+1:]
	}

	return nil
}

// indexOfFault returns the index of the wrong task from the field of err, such as "tasks[3].payload"; below 0 for
// all tasks.
func indexOfFault(err error, n int) int {
	e, ok := errors.AsType[*queue.Error](err)
	if !ok {
		return -1
	}

	rest, ok := strings.CutPrefix(e.Field, "tasks[")
	digits, _, closed := strings.Cut(rest, "]")
	if i, bad := strconv.Atoi(digits); ok && closed && bad == nil && i >= 0 && i < n {
		return i
	}

	return -1
}

func (im *importer) addOutcomes(made []*queue.Task, end int64) {
	im.mu.Lock()
	defer im.mu.Unlock()
	for _, t := range made {
		if t.Replayed {
			im.sum.Replayed++
		} else {
			im.sum.Created++
		}
	}

	im.done = max(im.done, end)
	im.progress.showPosition(im.done, im.size, int64(im.sum.Created+im.sum.Replayed))
}
