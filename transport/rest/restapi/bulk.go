package restapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Selection selects tasks for a bulk operation: by ids, or by a filter with at least one condition.
type Selection struct {
	IDs            []int64 `json:"ids,omitempty" doc:"The tasks; excludes the filter" example:"[1,2]"`
	Queue          *string `json:"queue,omitempty" doc:"Tasks of this queue" example:"mail"`
	Status         Strings `json:"status,omitempty" doc:"Tasks in one of these statuses; one may be given as text" example:"[\"failed\"]"`
	Worker         *string `json:"worker,omitempty" doc:"Tasks this worker held last" example:"w1"`
	CreatedAfter   *Time   `json:"created_after,omitempty" doc:"Tasks created later" example:"2026-01-02T15:04:05Z"`
	CreatedBefore  *Time   `json:"created_before,omitempty" doc:"Tasks created earlier" example:"2026-01-03T15:04:05Z"`
	FinishedAfter  *Time   `json:"finished_after,omitempty" doc:"Tasks that ended later" example:"2026-01-02T15:04:05Z"`
	FinishedBefore *Time   `json:"finished_before,omitempty" doc:"Tasks that ended earlier" example:"2026-01-03T15:04:05Z"`
	Key            *string `json:"key,omitempty" doc:"Tasks with this idempotency key" example:"order-17"`
	Text           *string `json:"text,omitempty" doc:"Tasks with this text in their payload, byte by byte as it was sent; needs queue" example:"ann@example.com"`
	DryRun         *bool   `json:"dry_run,omitempty" doc:"Count and change nothing" example:"true"`

	Cursor string    `json:"cursor,omitempty" doc:"The next of the answer before: go on there; the rest of the selection must be the same" example:"b2s"`
	Within *Duration `json:"within,omitempty" doc:"How long to work before answering, at most 5 s, which is the default" example:"2s"`
	Limit  *int      `json:"limit,omitempty" minimum:"1" maximum:"10000" doc:"The most tasks to look at before answering; absent = no limit" example:"1000"`
}

// SelectionOf converts s for the wire.
func SelectionOf(s queue.Selection) Selection {
	out := Selection{IDs: s.IDs, Cursor: s.Cursor, Within: durationOrNil(max(s.Within, 0))}
	if s.DryRun {
		out.DryRun = &s.DryRun
	}
	if s.Limit != 0 {
		out.Limit = &s.Limit
	}
	if f := s.Filter; f != nil {
		out.Queue, out.Worker = pointerTo(f.Queue), pointerTo(f.Worker)
		for _, st := range f.Statuses {
			out.Status = append(out.Status, string(st))
		}
		out.CreatedAfter, out.CreatedBefore = TimeOf(f.CreatedAfter), TimeOf(f.CreatedBefore)
		out.FinishedAfter, out.FinishedBefore = TimeOf(f.FinishedAfter), TimeOf(f.FinishedBefore)
		out.Key, out.Text = pointerTo(f.Key), pointerTo(f.Text)
	}
	return out
}

// Domain returns the selection as a value of the domain.
func (s Selection) Domain() (out queue.Selection, err error) {
	out = queue.Selection{IDs: s.IDs, DryRun: s.DryRun != nil && *s.DryRun, Cursor: s.Cursor}
	if out.Within, err = s.Within.valueOrZero("within"); err != nil {
		return out, err
	}
	if err := s.checkEmpty(); err != nil {
		return out, err
	}

	if s.Limit != nil {
		// Read as absent, 0 would mean no limit.
		if err := queue.CheckInt("limit", *s.Limit, 1, queue.MaxSelection); err != nil {
			return out, err
		}
		out.Limit = *s.Limit
	}

	f := queue.TaskFilter{Queue: textAt(s.Queue), Worker: textAt(s.Worker), Key: textAt(s.Key), Text: textAt(s.Text)}
	for _, st := range s.Status {
		f.Statuses = append(f.Statuses, queue.Status(st))
	}
	if f.CreatedAfter, err = s.CreatedAfter.inFilter("created_after"); err != nil {
		return out, err
	}
	if f.CreatedBefore, err = s.CreatedBefore.inFilter("created_before"); err != nil {
		return out, err
	}
	if f.FinishedAfter, err = s.FinishedAfter.inFilter("finished_after"); err != nil {
		return out, err
	}
	if f.FinishedBefore, err = s.FinishedBefore.inFilter("finished_before"); err != nil {
		return out, err
	}
	// Without a condition the filter stays nil, and Normalize refuses a selection of all tasks.
	if !f.IsEmpty() {
		out.Filter = &f
	}
	return out.Normalize()
}

// checkEmpty refuses a present but empty field: read as absent, it would select every task.
func (s Selection) checkEmpty() error {
	for _, x := range []struct {
		field string
		empty bool
	}{
		{"ids", s.IDs != nil && len(s.IDs) == 0},
		{"queue", s.Queue != nil && strings.TrimSpace(*s.Queue) == ""},
		{"status", s.Status != nil && len(s.Status) == 0},
		{"worker", s.Worker != nil && *s.Worker == ""},
		{"key", s.Key != nil && *s.Key == ""},
		{"text", s.Text != nil && *s.Text == ""},
	} {
		if x.empty {
			return queue.Invalid(x.field, "must not be empty; leave it out when it is not meant")
		}
	}
	return nil
}

// pointerTo returns a pointer to s, or nil for an empty s.
func pointerTo(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// textAt returns the text at s, or "" for nil.
func textAt(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Strings is a list of texts. A single one may come as text.
type Strings []string

// UnmarshalJSON accepts a list, a text or null.
func (s *Strings) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte{'"'}) {
		*s = make(Strings, 1)
		return json.Unmarshal(b, &(*s)[0])
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// Bulk answers a bulk operation.
type Bulk struct {
	Matched int64       `json:"matched" doc:"How many tasks the selection names and the move is allowed for" example:"2"`
	Moved   int64       `json:"moved" doc:"How many were moved; 0 after a dry run" example:"2"`
	More    bool        `json:"more,omitempty" doc:"There may be more to do: repeat the call with next as its cursor" example:"true"`
	Next    string      `json:"next,omitempty" doc:"The cursor to go on with; absent when all is done, and only then" example:"b2s"`
	Errors  []BulkError `json:"errors,omitempty" doc:"Of a selection by ids, which were not moved and why"`
}

// BulkError is the reason why one task was not moved.
type BulkError struct {
	ID    int64   `json:"id" doc:"The task" example:"3"`
	Error Problem `json:"error" doc:"Why it was not moved"`
}

// BulkOf converts b for the wire.
func BulkOf(b queue.Bulk) Bulk {
	out := Bulk{Matched: b.Matched, Moved: b.Moved, More: b.Next != "", Next: b.Next}
	for id, err := range b.Errs {
		out.Errors = append(out.Errors, BulkError{ID: id, Error: ProblemOf(err)})
	}
	// The map has no order, and equal answers must have equal bytes.
	slices.SortFunc(out.Errors, func(x, y BulkError) int { return cmp.Compare(x.ID, y.ID) })
	return out
}

// Domain returns the answer as a value of the domain. op names the operation in errors.
func (b Bulk) Domain(op string) queue.Bulk {
	out := queue.Bulk{Matched: b.Matched, Moved: b.Moved, Next: b.Next}
	for _, e := range b.Errors {
		if out.Errs == nil {
			out.Errs = make(map[int64]error, len(b.Errors))
		}
		out.Errs[e.ID] = e.Error.Err(op)
	}
	return out
}
