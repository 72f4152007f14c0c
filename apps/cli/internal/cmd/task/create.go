package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

type createOptions struct {
	queue   string
	payload string
	headers []string
	meta    queue.TaskMeta // of each task, but for payload and headers
}

func newCreateCommand(f *factory.Factory) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:         "create-task QUEUE",
		Annotations: cmdutil.Calls(queue.OpCreateTask, "task create"),
		SuggestFor:  []string{"enqueue", "push", "add", "submit"},
		Short:       "Create a task, or one of each JSON value of stdin",
		Long: "Create a task and show it.\n\n" +
			"--payload takes JSON, @file or - for stdin. Where the file or stdin holds several JSON values, as NDJSON has one\n" +
			"a line, each becomes the payload of a task: all of them or, when one is at fault, none; at most 10,000. For more,\n" +
			"and for tasks with settings of their own, there is: pgqueue import.\n" +
			"A task carries on the trace of the variables TRACEPARENT and TRACESTATE.",
		Example: "  pgqueue create-task mail --payload '{\"to\":\"a@b.c\"}'\n" +
			"  pgqueue create-task mail --payload @mail.json --delay 1h30m --priority -5\n" +
			"  pgqueue create-task mail --payload - <mails.ndjson\n" +
			"  pgqueue create-task mail --key order-17 --delayed-at 2026-12-24T18:00:00Z\n" +
			"  pgqueue create-task reindex --key shop-3 --debounce 10s --debounce-max 1m",
		Args:              cmdutil.Args(1, 1, "a queue", "--payload"),
		ValidArgsFunction: cmdutil.First(cmdutil.QueueNames(f)),

		RunE: func(cmd *cobra.Command, args []string) error {
			o.queue = args[0]
			return o.createTasks(cmd, f)
		},
	}

	fs := cmd.Flags()
	fs.StringVar(&o.payload, "payload", "", "the `payload`: JSON, @file, or - for stdin (default {})")
	cmdutil.Time(fs, &o.meta.DelayedAt, "delayed-at", "keep it waiting until this `time`")
	program.DurationVar(fs, &o.meta.Delay, "delay", "keep it waiting this long")
	fs.Int16Var(&o.meta.Priority, "priority", 0, "smaller is first")
	fs.StringVar(&o.meta.Key, "key", "", "idempotency `key`: the same key gives the task that is there")
	fs.StringVar((*string)(&o.meta.OnConflict), "on-conflict", "", "when a task has the key: `return` it, reject the create, or replace the task while it waits")
	fs.StringVar((*string)(&o.meta.UniqueUntil), "unique-until", "", "`end` of the key's hold on a task: started, finished or pruned (default pruned)")
	program.DurationVar(fs, &o.meta.Debounce, "debounce", "wait this long after the last create with the key, and run only its task")
	program.DurationVar(fs, &o.meta.DebounceMax, "debounce-max", "wait at most this long after the first of these creates")
	_ = cmd.RegisterFlagCompletionFunc("on-conflict", cmdutil.Fixed("return", "reject", "replace"))
	_ = cmd.RegisterFlagCompletionFunc("unique-until", cmdutil.Fixed("started", "finished", "pruned"))
	fs.StringVar(&o.meta.Group, "group", "", "group of the task, as a tenant or an ordering key")
	fs.StringArrayVar(&o.headers, "header", nil, "a header, as `NAME=VALUE`; may be repeated")

	return cmd
}

// traceForm is the form of TRACEPARENT: version, trace, span and flags of W3C Trace Context.
var traceForm = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// addTrace adds the trace of the environment to headers, so that a chain of commands is one trace. A header of the caller takes
// precedence. The standard demands to leave out a text of another form.
func addTrace(headers map[string]string, lookup func(string) (string, bool)) map[string]string {
	parent, _ := lookup("TRACEPARENT")
	if _, given := headers["traceparent"]; given || !traceForm.MatchString(parent) {
		return headers
	}

	traced := map[string]string{"traceparent": parent}
	if state, _ := lookup("TRACESTATE"); state != "" {
		traced["tracestate"] = state
	}
	// Last, so that a header of the caller wins.
	maps.Copy(traced, headers)
	return traced
}

func (o *createOptions) createTasks(cmd *cobra.Command, f *factory.Factory) error {
	headers, err := cmdutil.Headers(o.headers)
	if err != nil {
		return err
	}

	payloads, err := o.readPayloads(f)
	if err != nil {
		return err
	}

	svc, p, err := f.Both()
	if err != nil {
		return err
	}

	meta := o.meta
	meta.Headers = addTrace(headers, f.Lookup)
	ctx, cancel := f.Call(cmd.Context())
	defer cancel()

	// One task goes by itself: its answer shows the task, and its key may exist.
	if len(payloads) == 1 {
		meta.Payload = payloads[0]
		t, err := svc.CreateTask(ctx, o.queue, meta)
		if err != nil {
			return err
		}

		if err := printTask(f, p, t); err != nil {
			return err
		}

		if t.Replayed {
			fmt.Fprintf(f.IO.Err, "the key belongs to task %d, which was created before\n", t.ID)
		}

		return nil
	}

	// One key for several tasks would create the first of them and answer the others as repeats.
	if meta.Key != "" {
		return cmdutil.Usage("--key: must be for one task, got %d payloads; pgqueue import makes a key for each", len(payloads))
	}

	tasks := make([]queue.NewTask, len(payloads))
	for i := range payloads {
		tasks[i] = queue.NewTask{Queue: o.queue, TaskMeta: meta}
		tasks[i].Payload = payloads[i]
	}

	made, err := svc.CreateTasks(ctx, tasks)
	if err != nil {
		return err
	}

	if p.Human() {
		p.Done("%d tasks created in %s: %d to %d", len(made), made[0].Queue, made[0].ID, made[len(made)-1].ID)
		return nil
	}

	return output.List(p, restapi.ListOf(restapi.Each(made, restapi.TaskOf)), "", nil)
}

// readPayloads reads the value of --payload, or all values of its file or of stdin.
func (o *createOptions) readPayloads(f *factory.Factory) ([]json.RawMessage, error) {
	if o.payload == "" {
		return []json.RawMessage{nil}, nil
	}

	if o.payload != "-" && !strings.HasPrefix(o.payload, "@") {
		one, err := cmdutil.JSON(f, "--payload", o.payload)
		return []json.RawMessage{one}, err
	}

	b, err := cmdutil.Input(f, "--payload", o.payload)
	if err != nil {
		return nil, err
	}

	var out []json.RawMessage

	// The decoder takes values with and without line breaks between them, so NDJSON needs no form of its own.
	for dec := json.NewDecoder(bytes.NewReader(b)); ; {
		var v json.RawMessage
		err := dec.Decode(&v)
		switch {
		case errors.Is(err, io.EOF) && len(out) > 0:
			return out, nil
		case errors.Is(err, io.EOF):
			return nil, cmdutil.Usage("--payload: must hold a JSON value, got nothing in %s", o.payload)
		case err != nil:
			// The offset is that before the faulty token, so the line break in front of it counts too.
			line := 1 + bytes.Count(b[:min(int(dec.InputOffset())+1, len(b))], []byte("\n"))
			return nil, cmdutil.Usage("--payload: must be JSON; line %d: %v; nothing was created", line, err)

		case len(out) == queue.MaxBatch:
			return nil, cmdutil.Usage("--payload: must be at most %d values, got more; use pgqueue import", queue.MaxBatch)
		}

		out = append(out, v)
	}
}
