package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// seeded is a stack on which every route finds what it needs: queue q, its task 1, ticker t.
func seeded(t *testing.T) *stack {
	t.Helper()
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	s.do(201, "POST", "/api/ticker", `{"ticker":"t","cron":"@daily"}`)
	return s
}

// pathOf is a route's path with names of what is there.
func pathOf(r restapi.Route) string {
	path := strings.ReplaceAll(strings.ReplaceAll(r.Path, "{id}", "1"), "{queue}", "q")
	if strings.HasPrefix(path, "/ticker") {
		return "/api" + strings.ReplaceAll(path, "{name}", "t")
	}
	return "/api" + strings.ReplaceAll(path, "{name}", "q")
}

// TestEveryRouteRefusesParametersThatItDoesNotTake goes over the table of routes: a refused parameter changes nothing.
func TestEveryRouteRefusesParametersThatItDoesNotTake(t *testing.T) {
	s := seeded(t)
	for _, r := range restapi.Routes() {
		body := ""
		if r.Method == http.MethodPost || r.Method == http.MethodPatch {
			body = `{"queue":"q","status":["new"]}`
		}
		for query, field := range map[string]string{
			"dry_run=true": "dry_run", "quue=q": "quue", "staus=failed": "staus", "namespce=a": "namespce", "pretty": "pretty", "=": "",
			"namespace=a&namespace=b": "namespace", "namespace=": "namespace", "namespace=%20": "namespace", "%": "query",
		} {
			s.refused(422, queue.KindInvalid, field, r.Method, pathOf(r)+"?"+query, body)
		}
		s.refused(422, queue.KindInvalid, "namespace", r.Method, pathOf(r), body, "Pgqueue-Namespace", "")
		s.refused(422, queue.KindInvalid, "namespace", r.Method, pathOf(r)+"?namespace=a", body, "Pgqueue-Namespace", "b")
	}
	if a := s.do(200, "GET", "/api/task", ""); !strings.HasPrefix(a.body, `{"count":1,`) {
		t.Error("a refused request did something:", a.body)
	}
	t.Run("and says which was meant", func(t *testing.T) {
		s := &stack{T: t, url: s.url, http: s.http}
		for query, want := range map[string]string{
			"staus=failed": "did you mean status?", "Queue=q": "did you mean queue?", "created-after=x": "did you mean created_after?",
			"limti=1": "did you mean limit?", "wroker=w": "did you mean worker?", "foo=1": "this route takes brief, created_after, created_before, cursor, finished_after",
		} {
			if a := s.do(422, "GET", "/api/task?"+query, ""); !strings.Contains(a.body, want) {
				t.Errorf("%s: %s", query, a.body)
			}
		}
	})
}

func TestEmptyAndRepeatedParametersAreRefused(t *testing.T) {
	s := seeded(t)
	for _, x := range []struct{ method, path, field string }{
		{"GET", "/task?queue=", "queue"},
		{"GET", "/task?queue=%20", "queue"},
		{"GET", "/task?status=", "status"},
		{"GET", "/task?status=,", "status"},
		{"GET", "/task?worker=", "worker"},
		{"GET", "/task?created_after=", "created_after"},
		{"GET", "/task?limit=", "limit"},
		{"GET", "/task?queue=a&queue=b", "queue"},
		{"GET", "/task?limit=1&limit=2", "limit"},
		{"PUT", "/task?worker=w&queue=", "queue"},
		{"PUT", "/task?worker=w&queue=q&queue=", "queue"},
		{"PUT", "/task?worker=w&queue=,", "queue"},
		{"PUT", "/task?worker=w&worker=v", "worker"},
		{"PUT", "/task/q?worker=w&queue=r", "queue"},
		{"PUT", "/task?worker=w&wait=", "wait"},
		{"GET", "/event?queue=", "queue"},
		{"GET", "/event?task=", "task"},
		{"GET", "/ticker/next?ack=", "ack"},
		{"GET", "/ticker/t/preview?n=", "n"},
	} {
		s.refused(422, queue.KindInvalid, x.field, x.method, "/api"+x.path, "")
	}
	s.do(200, "GET", "/api/task?cursor=&status=new&status=retry", "") // the first page's cursor; two statuses
	s.do(201, "POST", "/api/queue", `{"queue":"r"}`)
	s.do(201, "POST", "/api/queue", `{"queue":"s"}`)
	s.do(200, "PUT", "/api/task?worker=w&queue=q,r&queue=s&limit=1", "")
}

// TestParametersOfThePredecessorsClients are what its Go client can send.
func TestParametersOfThePredecessorsClients(t *testing.T) {
	s := seeded(t)
	for _, path := range []string{
		"GET /namespace?offset=1&limit=2", "GET /queue?offset=1&limit=2", "GET /ticker?offset=1&limit=2",
		"GET /task?offset=1&limit=2&status=new&queue=q&worker=w", "PUT /task?worker=w", "PUT /task/q?worker=w&limit=1",
	} {
		method, path, _ := strings.Cut(path, " ")
		s.do(200, method, "/api"+path, "")
	}
}

func TestEmptyFilterInABodySelectsNothing(t *testing.T) {
	s := seeded(t)
	for _, route := range []string{"/api/task/delete", "/api/task/cancel", "/api/task/retry"} {
		for body, field := range map[string]string{
			`{"queue":"","status":["new"]}`: "queue", `{"queue":" ","status":["new"]}`: "queue", `{"worker":"","status":["new"]}`: "worker",
			`{"queue":"q","status":[]}`: "status", `{"queue":"q","status":""}`: "status", `{"queue":"q","status":["new",""]}`: "status",
			`{"queue":"q","ids":[]}`: "ids", `{"ids":[]}`: "ids", `{"queue":"q","created_after":""}`: "created_after",
			`{"queue":""}`: "queue", `{"queue":null,"worker":null,"status":null,"ids":null}`: "ids",
		} {
			s.refused(422, queue.KindInvalid, field, "POST", route, body)
		}
	}
	s.do(200, "GET", "/api/task/1", "")
	// null is absent, as everywhere.
	s.do(200, "POST", "/api/task/delete", `{"queue":"q","status":["new"],"worker":null,"ids":null}`)
	s.do(404, "GET", "/api/task/1", "")
}

// TestConditionsAreHonouredOrRefused goes over the table of routes: no change is made although its condition fails.
func TestConditionsAreHonouredOrRefused(t *testing.T) {
	s := seeded(t)
	s.do(200, "PATCH", "/api/queue/q", `{"retries":7}`)
	s.do(200, "PATCH", "/api/ticker/t", `{"overlap":"skip"}`)
	bodies := map[restapi.Route]string{
		restapi.UpdateQueue: `{"retries":1}`, restapi.UpdateTicker: `{"overlap":"allow"}`, restapi.CreateQueue: `{"queue":"r"}`,
		restapi.CreateTask: `{"queue":"q"}`, restapi.CreateTasks: `[{"queue":"q"}]`, restapi.CreateTicker: `{"ticker":"u","period":"1h"}`,
		restapi.CancelTasks: `{"queue":"q"}`, restapi.RetryTasks: `{"queue":"q"}`, restapi.DeleteTasks: `{"queue":"q"}`,
	}
	before := s.do(200, "GET", "/api/queue", "").body + s.do(200, "GET", "/api/ticker", "").body + s.do(200, "GET", "/api/task", "").body
	for _, r := range restapi.Routes() {
		if r.Method == http.MethodGet {
			continue
		}
		field := "If-Match"
		if slices.Contains([]restapi.Route{
			restapi.UpdateQueue, restapi.DeleteQueue, restapi.PauseQueue, restapi.ResumeQueue, restapi.CleanQueue,
			restapi.UpdateTicker, restapi.DeleteTicker, restapi.RunTicker,
		}, r) {
			field = "version"
		}
		s.refused(412, queue.KindPrecondition, field, r.Method, pathOf(r), bodies[r], "If-Match", `"1"`)
		if field == "If-Match" {
			s.refused(412, queue.KindPrecondition, field, r.Method, pathOf(r), bodies[r], "If-Match", "*")
		}
		s.refused(412, queue.KindPrecondition, "If-None-Match", r.Method, pathOf(r), bodies[r], "If-None-Match", `*`)
		s.refused(412, queue.KindPrecondition, "If-Unmodified-Since", r.Method, pathOf(r), bodies[r], "If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")
	}
	after := s.do(200, "GET", "/api/queue", "").body + s.do(200, "GET", "/api/ticker", "").body + s.do(200, "GET", "/api/task", "").body
	if before != after {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	s.refused(422, queue.KindInvalid, "If-Match", "PATCH", "/api/queue/q", `{"retries":1}`, "If-Match", "")
	s.do(200, "POST", "/api/ticker/t/run", "", "If-Match", `"2"`)
	s.do(200, "DELETE", "/api/ticker/t", "", "If-Match", `"2"`)
	s.do(200, "POST", "/api/queue/q/clean", "", "If-Match", `"2"`)
	s.do(200, "DELETE", "/api/queue/q", "", "If-Match", "*")
	s.refused(404, queue.KindNotFound, "", "DELETE", "/api/queue/q", "", "If-Match", "*")
}

func TestIdempotencyKeyOnEveryRouteThatMakesSomething(t *testing.T) {
	s := seeded(t)
	const batch = `[{"queue":"q","payload":1},{"queue":"q","payload":2}]`
	first := s.do(201, "POST", "/api/task/batch", batch, "Idempotency-Key", "b")
	if first.header.Get("Idempotency-Replayed") != "" {
		t.Error("a new batch is replayed")
	}
	again := s.do(200, "POST", "/api/task/batch", batch, "Idempotency-Key", "b")
	if why := shape(again.body, `{"count":2,"body":[{"id":2,"payload":1,"key":"b/0","replayed":true},{"id":3,"payload":2,"key":"b/1","replayed":true}]}`); why != "" || again.header.Get("Idempotency-Replayed") != "true" {
		t.Error(why, again)
	}
	lines := s.do(200, "POST", "/api/task/batch", "{\"queue\":\"q\",\"payload\":1}\n{\"queue\":\"q\",\"payload\":2}\n", "Idempotency-Key", "b", "Content-Type", "application/x-ndjson")
	if lines.body != again.body {
		t.Error(lines.body)
	}
	s.refused(422, queue.KindKeyReused, "tasks[1].key", "POST", "/api/task/batch", `[{"queue":"q","payload":1},{"queue":"q","payload":3}]`, "Idempotency-Key", "b")
	s.refused(422, queue.KindInvalid, "tasks[1].key", "POST", "/api/task/batch", `[{"queue":"q"},{"queue":"q","key":"own"}]`, "Idempotency-Key", "c")
	s.refused(422, queue.KindInvalid, "Idempotency-Key", "POST", "/api/task/batch", batch, "Idempotency-Key", strings.Repeat("k", queue.MaxKeyBytes-4))
	s.do(201, "POST", "/api/task/batch", batch, "Idempotency-Key", strings.Repeat("k", queue.MaxKeyBytes-5))
	s.refused(422, queue.KindInvalid, "Idempotency-Key", "POST", "/api/task/batch", batch, "Idempotency-Key", "")
	s.refused(422, queue.KindInvalid, "Idempotency-Key", "POST", "/api/task", `{"queue":"q"}`, "Idempotency-Key", " ")
	// A change that a repeat does again makes something, unless its verb says that it does not.
	bodies := map[restapi.Route]string{restapi.CreateQueue: `{"queue":"r"}`, restapi.CreateTicker: `{"ticker":"u","period":"1h"}`}
	refused := map[string]bool{}
	for _, r := range restapi.Routes() {
		verb, _, _ := strings.Cut(r.Op.Label(), "_")
		makesNothing := slices.Contains([]string{"update", "clean", "retry", "delete"}, verb)
		takesKeys := r == restapi.CreateTask || r == restapi.CreateTasks
		if r.Op.Operation().Effect != queue.EffectRepeats || makesNothing || takesKeys {
			continue
		}
		s.refused(422, queue.KindInvalid, "Idempotency-Key", r.Method, pathOf(r), bodies[r], "Idempotency-Key", "k")
		refused[r.ID] = true
	}
	for _, r := range []restapi.Route{
		restapi.CreateQueue, restapi.CreateTicker, restapi.RunTicker, restapi.CreateToken, restapi.RotateToken, restapi.OpenSession,
		restapi.CreateCode,
	} {
		if !refused[r.ID] {
			t.Errorf("%s was not tried", r.ID)
		}
	}
	for _, path := range []string{"/api/task?worker=w", "/api/task/q?worker=w"} {
		a := s.refused(422, queue.KindInvalid, "Idempotency-Key", "PUT", path, "", "Idempotency-Key", "k")
		if !strings.Contains(a.body, "request_id") {
			t.Error(a.body)
		}
	}
	for path, want := range map[string]string{"/api/queue": `{"count":1}`, "/api/ticker": `{"count":1}`, "/api/task": `{"count":5}`} {
		if why := shape(s.do(200, "GET", path, "").body, want); why != "" {
			t.Error(path, why)
		}
	}
	t.Run("the last task of the largest batch has a key", func(t *testing.T) {
		if last := fmt.Sprint(queue.MaxBatch - 1); len(last) != 4 {
			t.Error("keys of a batch need room for /" + last)
		}
	})
}

// TestRoutesWithoutABodyRefuseOne goes over the table of routes: fields of a body that is not taken change nothing.
func TestRoutesWithoutABodyRefuseOne(t *testing.T) {
	s := seeded(t)
	takesBody := []restapi.Route{
		restapi.CreateQueue, restapi.UpdateQueue, restapi.UpdateGroup, restapi.CreateTask, restapi.CreateTasks, restapi.ReleaseTask, restapi.ReleaseTasks,
		restapi.HeartbeatTask, restapi.HeartbeatTasks, restapi.SnoozeTask, restapi.HandBackTask, restapi.CancelTasks,
		restapi.RetryTasks, restapi.DeleteTasks, restapi.CreateTicker, restapi.AckTick, restapi.UpdateTicker,
		restapi.CreateToken, restapi.RotateToken, restapi.OpenSession,
	}
	before := s.do(200, "GET", "/api/queue", "").body + s.do(200, "GET", "/api/ticker", "").body + s.do(200, "GET", "/api/task", "").body
	for _, r := range restapi.Routes() {
		if slices.Contains(takesBody, r) {
			continue
		}
		for _, body := range []string{`{"dry_run":true}`, `{"queue":["mail"]}`, `[]`, `{`, `1`} {
			s.refused(422, queue.KindInvalid, "body", r.Method, pathOf(r), body)
		}
	}
	after := s.do(200, "GET", "/api/queue", "").body + s.do(200, "GET", "/api/ticker", "").body + s.do(200, "GET", "/api/task", "").body
	if before != after {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}

	for _, body := range []string{"", " ", "null", "{}", " { } "} { // the predecessor's clients send null
		s.do(200, "GET", "/api/ticker", body)
		s.do(200, "POST", "/api/queue/q/pause", body)
	}
}

func TestListOfNamespacesIsWholeOrNamesItsNext(t *testing.T) {
	s := newStack(t)
	for i := range 150 {
		s.do(201, "POST", fmt.Sprintf("/api/queue?namespace=n%03d", i), `{"queue":"q"}`)
	}
	for query, want := range map[string]struct {
		names int
		next  string
	}{
		"": {150, ""}, "?offset=20": {130, ""}, "?limit=7": {7, "n006"}, "?limit=100&offset=100": {50, ""}, "?limit=1000": {150, ""},
		"?limit=7&cursor=n006": {7, "n013"}, "?cursor=n148": {1, ""}, "?cursor=n0065&limit=1": {1, "n007"}, "?offset=1000": {0, ""},
	} {
		var list struct {
			Count int
			Body  []string
			Next  string
		}
		a := s.do(200, "GET", "/api/namespace"+query, "")
		if err := json.Unmarshal([]byte(a.body), &list); err != nil {
			t.Fatal(err)
		}
		list.Body = slices.DeleteFunc(list.Body, func(name string) bool { return name == queue.SystemNamespace })
		if list.Count != 151 || list.Body == nil || len(list.Body) != want.names || list.Next != want.next {
			t.Errorf("%s: %s", query, a.body)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?offset=-1", "?offset=1&cursor=n001"} {
		s.do(422, "GET", "/api/namespace"+query, "")
	}
	if names, err := s.client.ListNamespaces(t.Context()); err != nil || len(names) != 151 {
		t.Error(len(names), err)
	}
}
