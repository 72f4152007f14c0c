package queue_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestMakeDeadLetter(t *testing.T) {
	q := queue.Queue{Name: "mail", FailurePolicy: queue.FailurePolicy{DeadLetter: "dead"}}
	origin := map[string]string{queue.HeaderDeadLetterQueue: "mail", queue.HeaderDeadLetterTask: "7", queue.HeaderDeadLetterAttempts: "3"}
	many := map[string]string{"traceparent": "t", "tracestate": "s"}
	for i := range queue.MaxHeaders - 2 {
		many[fmt.Sprintf("a%02d", i)] = "v"
	}
	large := map[string]string{"traceparent": "t", "a": strings.Repeat("x", queue.MaxHeadersBytes-20), "b": "small"}

	for name, c := range map[string]struct {
		headers map[string]string
		kind    string
		want    map[string]string // beside the origin; nil = not compared
		omitted string
	}{
		"no headers":                   {nil, "", map[string]string{}, ""},
		"headers and a kind":           {map[string]string{"h": "v"}, "gone", map[string]string{"h": "v", queue.HeaderDeadLetterErrorKind: "gone"}, ""},
		"the origin of an earlier one": {map[string]string{queue.HeaderDeadLetterQueue: "old", queue.HeaderDeadLetterErrorKind: "old"}, "", map[string]string{}, ""},
		"as many headers as allowed":   {many, "gone", nil, "5"},
		"as many bytes as allowed":     {large, "", map[string]string{"traceparent": "t", "b": "small", queue.HeaderDeadLetterOmitted: "1"}, "1"},
	} {
		task := &queue.Task{ID: 7, Attempt: 3, Payload: []byte(`{"a" : 1}`), Headers: c.headers, Key: "k", Group: "g", Priority: 2}
		before := maps.Clone(c.headers)
		got := q.MakeDeadLetter(task, c.kind)
		if got.Queue != "dead" || string(got.Payload) != `{"a" : 1}` || got.Key != "" || got.Group != "g" || got.Priority != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := got.Normalize(queue.DefaultMaxPayloadBytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := maps.Clone(origin)
		maps.Copy(want, c.want)
		if c.want != nil && !maps.Equal(got.Headers, want) || got.Headers[queue.HeaderDeadLetterOmitted] != c.omitted || !maps.Equal(c.headers, before) {
			t.Errorf("%s: %.600v, want %.600v", name, got.Headers, want)
		}
		if c.headers["traceparent"] != got.Headers["traceparent"] || c.headers["tracestate"] != got.Headers["tracestate"] {
			t.Errorf("%s: the headers of traces are gone", name)
		}
	}
}

func TestCheckDeadLetter(t *testing.T) {
	chain := map[string]string{"a": "b", "b": "c", "c": "", "x": "y", "y": "z", "z": "x"}
	find := func(name string) (*queue.Queue, error) {
		next, ok := chain[name]
		if !ok {
			return nil, queue.NotFoundQueue(name)
		}
		return &queue.Queue{Name: name, FailurePolicy: queue.FailurePolicy{DeadLetter: next}}, nil
	}
	for _, c := range []struct{ name, to, says string }{
		{"n", "", ""},
		{"n", "a", ""},
		{"n", "c", ""},
		{"n", "n", "circle n, n"},
		{"c", "a", "circle c, a, b, c"},
		{"c", "b", "circle c, b, c"},
		{"n", "none", "create the queue first"},
		{"n", "x", "circle n, x, y, z, x"},
	} {
		q := queue.Queue{Name: c.name, FailurePolicy: queue.FailurePolicy{DeadLetter: c.to}}
		err := q.CheckDeadLetter(find)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s to %q: %v, want %q", c.name, c.to, err, c.says)
		}
	}

	broken := errors.New("broken")
	q := queue.Queue{Name: "n", FailurePolicy: queue.FailurePolicy{DeadLetter: "a"}}
	if err := q.CheckDeadLetter(func(string) (*queue.Queue, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
