package restapi

import (
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// AuditEntry is an entry of the audit in an answer.
type AuditEntry struct {
	ID            int64     `json:"id" doc:"The id of the entry" example:"1"`
	At            time.Time `json:"at" doc:"The time of the database" example:"2026-01-02T15:04:05Z"`
	PrincipalID   string    `json:"principal_id" doc:"The id of the principal; of a refused credential, the id that it claims" example:"4fJd8sKq"`
	PrincipalName string    `json:"principal_name,omitempty" doc:"For people" example:"mail workers"`
	PrincipalKind string    `json:"principal_kind,omitempty" doc:"The kind of credential" example:"token"`
	Issuer        string    `json:"issuer,omitempty" doc:"The issuer of a JWT" example:"https://id.example.com"`
	Subject       string    `json:"subject,omitempty" doc:"The subject of a JWT" example:"user-1"`
	RequestID     string    `json:"request_id,omitempty" doc:"The id of the request" example:"5b1c0f0a9f0e4c7d"`
	Via           string    `json:"via,omitempty" doc:"The way in: rest, connect, grpc, grpcweb, ui or cli" example:"rest"`
	Remote        string    `json:"remote,omitempty" doc:"The address of the client" example:"192.0.2.1:50000"`
	Reason        string    `json:"reason,omitempty" doc:"The reason that the caller gave in the header Pgqueue-Reason" example:"incident 7"`
	Action        string    `json:"action,omitempty" doc:"The right that the operation needs" example:"task.operate"`
	Operation     string    `json:"operation,omitempty" doc:"The operation" example:"cancel_tasks"`
	Namespace     string    `json:"namespace,omitempty" doc:"The namespace that it concerns" example:"default"`
	Queue         string    `json:"queue,omitempty" doc:"The queue that it concerns" example:"mail"`
	Ticker        string    `json:"ticker,omitempty" doc:"The ticker that it concerns" example:"hourly"`
	Task          int64     `json:"task,omitempty" doc:"The only task that it concerns" example:"1"`
	Token         string    `json:"token,omitempty" doc:"The public part of the token that it concerns" example:"4fJd8sKq"`
	Filter        string    `json:"filter,omitempty" doc:"The filter of a bulk operation" example:"queue=mail"`
	IDs           int       `json:"ids,omitempty" doc:"The number of ids of a bulk operation" example:"10"`
	DryRun        bool      `json:"dry_run,omitempty" doc:"It changed nothing" example:"false"`
	Outcome       string    `json:"outcome" doc:"ok, or the kind of the error" example:"ok"`
	Calls         int       `json:"calls" doc:"The number of calls that the entry stands for" example:"1"`
	Matched       int64     `json:"matched,omitempty" doc:"The tasks that it selected" example:"10"`
	Moved         int64     `json:"moved,omitempty" doc:"The tasks that it changed" example:"10"`

	Changes []AuditChange `json:"changes,omitempty" doc:"The settings that it changed"`
}

// AuditChange is a setting before and after a change.
type AuditChange struct {
	Field string `json:"field" doc:"The setting" example:"concurrency"`
	Old   string `json:"old,omitempty" doc:"The value before; absent for a new object, and where it is not known" example:"10"`
	New   string `json:"new,omitempty" doc:"The value after; absent for a deleted object" example:"20"`
}

// AuditEntryOf converts e for the wire.
func AuditEntryOf(e access.AuditEntry) AuditEntry {
	return AuditEntry{
		ID: e.ID, At: e.At, PrincipalID: e.PrincipalID, PrincipalName: e.PrincipalName, PrincipalKind: string(e.PrincipalKind),
		Issuer: e.Issuer, Subject: e.Subject, RequestID: e.RequestID, Via: string(e.Via), Remote: e.Remote, Reason: e.Reason,
		Action: string(e.Action), Operation: e.Operation, Namespace: e.Namespace, Queue: e.Queue, Ticker: e.Ticker, Task: e.Task,
		Token: e.Token, Filter: e.Filter, IDs: e.IDs, DryRun: e.DryRun, Outcome: e.Outcome, Calls: e.Calls, Matched: e.Matched,
		Moved: e.Moved, Changes: Each(e.Changes, func(c access.AuditChange) AuditChange { return AuditChange(c) }),
	}
}

// Domain returns the entry that e describes.
func (e AuditEntry) Domain() access.AuditEntry {
	var changes []access.AuditChange
	for _, c := range e.Changes {
		changes = append(changes, access.AuditChange(c))
	}
	return access.AuditEntry{
		ID: e.ID, At: e.At, PrincipalID: e.PrincipalID, PrincipalName: e.PrincipalName, PrincipalKind: access.Kind(e.PrincipalKind),
		Issuer: e.Issuer, Subject: e.Subject,
		Caller: access.Caller{RequestID: e.RequestID, Via: access.Via(e.Via), Remote: e.Remote, Reason: e.Reason},
		Action: queue.Action(e.Action), Operation: e.Operation, Namespace: e.Namespace, Queue: e.Queue, Ticker: e.Ticker, Task: e.Task,
		Token: e.Token, Filter: e.Filter, IDs: e.IDs, DryRun: e.DryRun, Outcome: e.Outcome, Calls: e.Calls, Matched: e.Matched,
		Moved: e.Moved, Changes: changes,
	}
}

// AuditPage is a page of the audit.
type AuditPage struct {
	Body []AuditEntry `json:"body" doc:"The entries, newest first"`
	Next string       `json:"next,omitempty" doc:"The cursor of the next page; absent at the end" example:"abc.1"`
}

// Bytes is about how many bytes p takes in an answer.
func (p *AuditPage) Bytes() (n int) {
	const frame, changeFrame = 512, 32 // the names of the fields, numbers and times
	for i := range p.Body {
		e := &p.Body[i]
		n += frame + len(e.PrincipalID) + len(e.PrincipalName) + len(e.Issuer) + len(e.Subject) + len(e.RequestID) + len(e.Remote) +
			len(e.Reason) + len(e.Operation) + len(e.Namespace) + len(e.Queue) + len(e.Ticker) + len(e.Token) + len(e.Filter)
		for _, c := range e.Changes {
			n += changeFrame + len(c.Field) + len(c.Old) + len(c.New)
		}
	}
	return n
}
