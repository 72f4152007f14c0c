package input

import (
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Queue is the queue of a path.
type Queue struct {
	Queue Name `path:"queue" example:"mail" doc:"The queue"`
}

// Named is the name of a path.
type Named struct {
	Name Name `path:"name" example:"mail" doc:"The name, trimmed and lower-cased"`
}

// Task is the task of a path.
type Task struct {
	ID ID `path:"id" example:"1" doc:"The task's id"`
}

// Token is the token of a path.
type Token struct {
	ID string `path:"id" example:"4fJd8sKq" doc:"The public part of the token"`
}

// Session is the session of a path.
type Session struct {
	ID string `path:"id" example:"4fJd8sKq" doc:"The public part of the session"`
}

// Grouped names a queue and a group of its tasks in the path.
type Grouped struct {
	Named
	Group string `path:"group" example:"tenant-7" doc:"The group, percent-encoded"`
}

// Window is a part of a list by its position.
type Window struct {
	Offset Number `query:"offset" minimum:"0" example:"0" doc:"Rows to skip"`
	Limit  Limit  `query:"limit" minimum:"1" maximum:"1000" example:"100" doc:"The most rows of a page, 1 to 1000, default 100"`
}

// Domain returns the page that w names.
func (w Window) Domain() queue.Page { return queue.Page{Offset: w.Offset.Value, Limit: w.Limit.Value} }

// Page is a part of a list by its position, or by the cursor of the page before.
type Page struct {
	Window
	Cursor string `query:"cursor" example:"MTIz" doc:"The next of the page before, excludes offset"`
}

// Domain returns the page that p names.
func (p Page) Domain() queue.Page {
	page := p.Window.Domain()
	page.Cursor = p.Cursor
	return page
}

// NamePage is a Page of a list that is complete without a limit.
type NamePage struct {
	Offset Number `query:"offset" minimum:"0" example:"0" doc:"Rows to skip"`
	Limit  Limit  `query:"limit" minimum:"1" maximum:"1000" example:"100" doc:"The most rows of a page, 1 to 1000, default all"`
	Cursor string `query:"cursor" example:"mail" doc:"The next of the page before, excludes offset"`
}

// Domain returns the page that p names.
func (p NamePage) Domain() queue.Page {
	return queue.Page{Offset: p.Offset.Value, Limit: p.Limit.Value, Cursor: p.Cursor}
}

// TickStream selects how the ticks of a stream are settled.
type TickStream struct {
	Ack Flag `query:"ack" example:"false" doc:"Each tick is settled with POST /ticker/ack"`
}

// Retain holds all parameters of a retain but its queues.
type Retain struct {
	Worker       string   `query:"worker" maxLength:"255" example:"w1" doc:"The worker's name, 1 to 255 bytes"`
	Wait         Duration `query:"wait" example:"\"30s\"" doc:"How long to wait when there is nothing yet, at most 10m"`
	Lease        Duration `query:"lease" example:"\"5m\"" doc:"The lease instead of the queue's"`
	Limit        Limit    `query:"limit" minimum:"1" maximum:"10000" example:"100" doc:"The most tasks, 1 to 10000"`
	MaxBytes     Number   `query:"max_bytes" minimum:"1" maximum:"8388608" example:"3000000" doc:"About how many bytes the tasks may have together, default 3000000; the first always fits, the rest stays available"`
	MaxTaskBytes Number   `query:"max_task_bytes" minimum:"1" maximum:"2147483647" example:"4194304" doc:"The most bytes of one task that the caller can receive, default any; larger ones go back at no cost of an attempt, and a retain that has no other task fails with a problem that names one"`
	RequestID    string   `query:"request_id" maxLength:"255" example:"f3b1" doc:"Makes the retain repeatable: the same request of the worker under this id gives the same tasks and tokens, for the shorter of their leases and 30 s"`
}

// IfMatch is the version that a change requires.
type IfMatch struct {
	Version Version `header:"If-Match" example:"\"1\"" doc:"The ETag: refuse with 412 when it has changed since"`
}

// Version is the version in an ETag; absent and * are 0.
type Version struct{ Value queue.IfVersion }

// UnmarshalText reads an ETag with ParseETag.
func (v *Version) UnmarshalText(text []byte) error {
	version, err := ParseETag(string(text))
	v.Value = queue.IfVersion(version)
	return err
}

// Schema describes an ETag.
func (Version) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeString} }

// FormatETag returns the ETag of a version.
func FormatETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// ParseETag returns the version in an If-Match header, or 0 if the header is absent or *.
func ParseETag(tag string) (int64, error) {
	tag = strings.TrimSpace(tag)
	if tag == "" || tag == "*" {
		return 0, nil
	}
	version, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
	if err != nil || version == 0 || len(tag) < 3 || tag[0] != '"' {
		return 0, &queue.Error{
			Kind: queue.KindPrecondition, Field: "If-Match",
			Msg: "must be an ETag of this server, as \"1\", got " + restapi.Quote(tag) + "; get the object again",
		}
	}
	return version, nil
}

// IfNoneMatch holds the version that the client already has.
type IfNoneMatch struct {
	Tags string `header:"If-None-Match" example:"\"1\"" doc:"The ETag: answer 304 when it has not changed since"`
}

// Has reports whether the client has the version.
func (m IfNoneMatch) Has(version int64) bool {
	tag := FormatETag(version)
	for have := range strings.SplitSeq(m.Tags, ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == tag || have == "*" {
			return true
		}
	}
	return false
}

// Split returns the values of a parameter that takes repeats and commas.
func Split[S ~string](values []S) []S {
	var out []S
	for _, v := range values {
		for s := range strings.SplitSeq(string(v), ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, S(s))
			}
		}
	}
	return out
}
