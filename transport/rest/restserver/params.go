package restserver

import (
	"fmt"
	"math"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// params is the one table of everything a route takes beside its body.
func params() map[string]*huma.Param {
	table := map[string]*huma.Param{}
	for _, p := range []*huma.Param{
		{In: "path", Name: "name", Schema: name(), Example: "mail", Description: "The name, trimmed and lower-cased"},
		{In: "path", Name: "id", Schema: integer(1, 0), Example: 1, Description: "The task's id"},

		{In: "query", Name: "queue", Schema: name(), Example: "mail", Description: "Only of this queue"},
		{In: "query", Name: "worker", Schema: text(queue.MaxWorkerBytes), Example: "w1", Description: "The worker's name, 1 to 255 bytes"},
		{In: "query", Name: "wait", Schema: duration(), Example: "30s", Description: fmt.Sprintf("How long to wait when there is nothing yet, at most %v", queue.MaxWait)},
		{In: "query", Name: "lease", Schema: duration(), Example: "5m", Description: "The lease instead of the queue's"},
		{In: "query", Name: "max_bytes", Schema: integer(1, queue.MaxRetainBytes), Example: queue.DefaultRetainBytes, Description: fmt.Sprintf("About how many bytes the tasks may have together, default %d; the first always fits, what does not stays available", queue.DefaultRetainBytes)},
		{In: "query", Name: "max_task_bytes", Schema: integer(1, math.MaxInt32), Example: 4 << 20, Description: "The most bytes of one task that the caller can receive, default any; larger ones go back at no cost of an attempt, and a retain that has no other task fails with a problem that names one"},
		{In: "query", Name: "request_id", Schema: text(queue.MaxRequestIDBytes), Example: "f3b1", Description: "Makes the retain repeatable: the same request of the worker under this id gives the same tasks and tokens, for the shorter of their leases and 30 s"},
		{In: "query", Name: "status", Schema: list(enum(queue.Statuses())), Example: []string{"new"}, Description: "Only tasks in this status; repeat it for several"},
		{In: "query", Name: "kind", Schema: list(enum(queue.EventKinds())), Example: []string{"created"}, Description: "Only events of this kind; repeat it for several"},
		{In: "query", Name: "task", Schema: integer(1, 0), Example: 1, Description: "Only events of this task"},
		{In: "query", Name: "created_after", Schema: instant(), Example: "2026-01-02T15:04:05Z", Description: "Only tasks created later"},
		{In: "query", Name: "created_before", Schema: instant(), Example: "2026-01-03T15:04:05Z", Description: "Only tasks created earlier"},
		{In: "query", Name: "offset", Schema: integer(0, 0), Example: 0, Description: "Rows to skip"},
		{In: "query", Name: "limit", Schema: integer(1, 0), Example: 100, Description: fmt.Sprintf("The most rows of a page, 1 to %d, default %d; of a retain, the most tasks, 1 to %d", queue.MaxPage, queue.DefaultPage, queue.MaxBatch)},
		{In: "query", Name: "cursor", Schema: text(0), Example: "MTIz", Description: "The next of the page before, excludes offset; of events, the cursor of the last one seen"},
		{In: "query", Name: "order", Schema: enum([]string{"newest", "oldest"}), Example: "oldest", Description: "Which tasks come first; newest is the default"},
		{In: "query", Name: "within", Schema: duration(), Example: "2s", Description: fmt.Sprintf("How long to work before answering, at most %v, which is the default", queue.BulkStep)},
		{In: "query", Name: "n", Schema: integer(1, queue.MaxPreview), Example: 10, Description: "How many times"},
		{In: "query", Name: "ack", Schema: &huma.Schema{Type: huma.TypeBoolean}, Example: false, Description: "Each tick is settled with POST /ticker/ack"},

		{In: "header", Name: restapi.HeaderNamespace, Schema: name(), Example: "default", Description: "The namespace; ?namespace= does the same"},
		{In: "header", Name: restapi.HeaderKey, Schema: text(queue.MaxKeyBytes), Example: "order-17", Description: "The task's key"},
		{In: "header", Name: restapi.HeaderLastEventID, Schema: text(0), Example: "42", Description: "The cursor of the last event seen"},
		{In: "header", Name: "If-Match", Schema: text(0), Example: `"1"`, Description: "The ETag: refuse with 412 when it has changed since"},
		{In: "header", Name: "If-None-Match", Schema: text(0), Example: `"1"`, Description: "The ETag: answer 304 when it has not changed since"},
	} {
		p.Required = p.In == "path"
		table[p.Name] = p
	}
	table["queues"] = &huma.Param{In: "query", Name: "queue", Schema: list(name()), Example: []string{"mail"}, Description: "The queue; repeat it for several; none = any"}
	table["namespace"] = &huma.Param{In: "query", Name: "namespace", Schema: name()} // described with its header
	return table
}

func name() *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^\s*[A-Za-z][A-Za-z0-9_-]{0,62}\s*$`}
}

func text(most int) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	if most > 0 {
		s.MaxLength = &most
	}
	return s
}

func integer(least, most int) *huma.Schema {
	low := float64(least)
	s := &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &low}
	if most > 0 {
		high := float64(most)
		s.Maximum = &high
	}
	return s
}

func instant() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Format: "date-time"} }

func list(of *huma.Schema) *huma.Schema { return &huma.Schema{Type: huma.TypeArray, Items: of} }

func enum[S ~string](values []S) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// duration is what a request may say: restapi.ParseDuration reads it.
func duration() *huma.Schema {
	zero := 0.0
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeInteger, Format: "int64", Minimum: &zero, Description: "Nanoseconds"},
		{Type: huma.TypeString, Pattern: `^([0-9]*\.?[0-9]+(w|d|h|m|s|ms|us|ns))+$`, Description: "Numbers with units"},
	}}
}
