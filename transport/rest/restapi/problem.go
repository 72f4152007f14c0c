package restapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// statuses is the only table of kinds and HTTP statuses. If several kinds share a status, the first one is the kind
// of a problem without a code.
var statuses = []struct {
	kind   queue.Kind
	status int
}{
	{queue.KindInvalid, http.StatusUnprocessableEntity},
	{queue.KindKeyReused, http.StatusUnprocessableEntity},
	{queue.KindTooLarge, http.StatusRequestEntityTooLarge},
	{queue.KindNotFound, http.StatusNotFound},
	{queue.KindConflict, http.StatusConflict},
	{queue.KindAlreadyExists, http.StatusConflict},
	{queue.KindLeaseLost, http.StatusConflict},
	{queue.KindPrecondition, http.StatusPreconditionFailed},
	{queue.KindExhausted, http.StatusTooManyRequests},
	{queue.KindCursorExpired, http.StatusGone},
	{queue.KindUnavailable, http.StatusServiceUnavailable},
	{queue.KindIndeterminate, http.StatusServiceUnavailable},
	{queue.KindSlowReader, http.StatusServiceUnavailable},
	{queue.KindDeadline, http.StatusGatewayTimeout},
	{queue.KindCanceled, StatusClientClosedRequest},
	{queue.KindDenied, http.StatusForbidden},
	{queue.KindUnauthenticated, http.StatusUnauthorized},
	{queue.KindInternal, http.StatusInternalServerError},
}

// StatusClientClosedRequest is the status of a request after the disconnect of its caller. Only logs contain it.
const StatusClientClosedRequest = 499

// StatusOf returns the HTTP status of a kind.
func StatusOf(k queue.Kind) int {
	for _, row := range statuses {
		if row.kind == k {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// KindOf is the kind of an error answer: its code when that is a kind, else what its status means. A status without a
// meaning here is KindInternal: a proxy's refusal says nothing about the input, so a worker must not replace a result.
func KindOf(status int, code string) queue.Kind {
	for _, row := range statuses {
		if string(row.kind) == code {
			return row.kind
		}
	}

	// A proxy that limits its callers answers 429 too: only the code distinguishes a full queue.
	for _, row := range statuses {
		if row.status == status && row.kind != queue.KindExhausted {
			return row.kind
		}
	}

	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return queue.KindUnavailable
	}
	return queue.KindInternal
}

// KindOfForeign is the kind of an error answer without a problem of pgqueue, as a proxy sends it. Only a status that a proxy
// uses for its own refusals has a meaning.
func KindOfForeign(status int) queue.Kind {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		// nginx and envoy answer so too when the server has died after its commit.
		return queue.KindIndeterminate
	case http.StatusNotFound, http.StatusGone, http.StatusPreconditionFailed, http.StatusUnprocessableEntity,
		StatusClientClosedRequest:
		return queue.KindInternal // the status describes no task, cursor, version or input of pgqueue
	}
	return KindOf(status, "")
}

// Problem is an error on the wire: RFC 9457 with a stable code.
type Problem struct {
	Type      string `json:"type" doc:"A URN of the code" example:"urn:pgqueue:problem:not_found"`
	Title     string `json:"title" doc:"The code in words" example:"not found"`
	Status    int    `json:"status" doc:"The HTTP status" example:"404"`
	Detail    string `json:"detail" doc:"The fault and its remedy, for people" example:"no such queue; create it first"`
	Code      string `json:"code" doc:"The kind of fault, for programs; codes are only ever added" example:"not_found"`
	Field     string `json:"field,omitempty" doc:"The input at fault" example:"queue"`
	Subject   string `json:"subject,omitempty" doc:"The object at fault" example:"queue mail"`
	RequestID string `json:"request_id,omitempty" doc:"The X-Request-Id of the request" example:"5b1c0f0a9f0e4c7d"`
}

// SubjectRoute is the subject of the problem that says that a path has no route. Each request of a client of pgqueue has one, so
// the URL of the client leads to another path of the server.
const SubjectRoute = "route"

// problemType is the beginning of the type of each problem of pgqueue.
const problemType = "urn:pgqueue:problem:"

// IsOurs reports whether p is a problem of pgqueue, and not one of a proxy in the same format.
func (p Problem) IsOurs() bool {
	isKind := slices.Contains(queue.Kinds(), queue.Kind(p.Code))
	return isKind || p.Code != "" && strings.HasPrefix(p.Type, problemType)
}

// ProblemOf converts err for the wire. Causes stay behind, and an error of another package becomes internal without
// its text.
func ProblemOf(err error) Problem {
	k := queue.KindOf(err)
	p := Problem{
		Type: problemType + string(k), Title: strings.ReplaceAll(string(k), "_", " "),
		Status: StatusOf(k), Code: string(k),
	}
	if e, ok := errors.AsType[*queue.Error](err); ok && k != queue.KindInternal {
		p.Detail, p.Field, p.Subject = e.Msg, e.Field, e.Subject
	}
	if p.Detail == "" {
		p.Detail = p.Title
	}
	return p
}

// Incomplete is the error of an answer that lacks a part.
func Incomplete(op string) error {
	return &queue.Error{Op: op, Kind: queue.KindInternal, Msg: "the server's answer is incomplete"}
}

// Err returns the problem as an error of the domain. op names the operation.
func (p Problem) Err(op string) *queue.Error {
	msg := p.Detail
	if msg == p.Title {
		msg = ""
	}
	return &queue.Error{Op: op, Kind: KindOf(p.Status, p.Code), Subject: p.Subject, Field: p.Field, Msg: msg}
}
