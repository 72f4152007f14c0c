package restserver

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// output is an answer with only a body. Body is a pointer, because huma would copy a value.
type output[T any] struct{ Body *T }

// outputOf returns v as an answer, or err.
func outputOf[In, Out any](convert func(In) Out, v In, err error) (*output[Out], error) {
	if err != nil {
		return nil, err
	}
	body := convert(v)
	return &output[Out]{Body: &body}, nil
}

// listOutput returns a complete list as an answer, or err.
func listOutput[In, Out any](convert func(In) Out, items []In, err error) (*output[restapi.List[Out]], error) {
	if err != nil {
		return nil, err
	}
	body := restapi.ListOf(restapi.Each(items, convert))
	return &output[restapi.List[Out]]{Body: &body}, nil
}

// streamOutput returns an answer that write writes.
func streamOutput(write func()) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(huma.Context) { write() }}
}

// noOutput is an answer without a body.
type noOutput struct{}

// versioned is an answer with a version. huma omits the body with status 304.
type versioned[T any] struct {
	Status int
	ETag   string `header:"ETag" doc:"The version, for If-Match and If-None-Match"`
	Body   *T
}

func queueOutput(status int, q *queue.Queue, err error) (*versioned[restapi.Queue], error) {
	if err != nil {
		return nil, err
	}
	body := restapi.QueueOf(q)
	return &versioned[restapi.Queue]{Status: status, ETag: input.FormatETag(q.Version), Body: &body}, nil
}

func tickerOutput(status int, t *queue.Ticker, err error) (*versioned[restapi.Ticker], error) {
	if err != nil {
		return nil, err
	}
	body := restapi.TickerOf(t)
	return &versioned[restapi.Ticker]{Status: status, ETag: input.FormatETag(t.Version), Body: &body}, nil
}

// creation is the answer of a create, which may have found existing tasks under its keys.
type creation[T any] struct {
	Status   int
	Replayed string `header:"Idempotency-Replayed" doc:"true, with status 200: the tasks were there under their keys"`
	Body     *T
}

func creationOf[T any](replayed bool, v T) *creation[T] {
	if replayed {
		return &creation[T]{Status: http.StatusOK, Replayed: "true", Body: &v}
	}
	return &creation[T]{Status: http.StatusCreated, Body: &v}
}
