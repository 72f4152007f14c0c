package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// fenced is a closed server with the queues mail and bills in the namespace default, and inv in other. Task 1 is in mail, 2 in
// bills, and a ticker fires into each.
type fenced struct {
	*Server
	t      *testing.T
	client *http.Client
	tokens map[string]string // by name
	system queue.Service
}

// startFenced starts the server with a token for each of grants, and one with every right under "system".
func startFenced(t *testing.T, grants map[string]string) *fenced {
	t.Helper()
	f := &fenced{t: t, client: wireClient(t), tokens: map[string]string{"system": access.NewSecret().Reveal()}}
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	lines := []string{f.tokens["system"]}
	for name, grant := range grants {
		f.tokens[name] = access.NewSecret().Reveal()
		lines = append(lines, f.tokens[name]+" "+grant)
	}
	store := &slow{Store: memory.New(), entered: make(chan struct{}, 1000), leave: make(chan struct{}), closed: make(chan struct{})}
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.AdminTokenFile = writeTokens(t, lines...)
	f.Server = start(t, cfg)

	f.system = dialAs(t, f.Server, "rest", f.tokens["system"])
	other, err := f.system.In("other")
	if err != nil {
		t.Fatal(err)
	}
	for name, svc := range map[string]queue.Service{"mail": f.system, "bills": f.system, "inv": other} {
		if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"mail", "bills"} {
		if _, err := f.system.CreateTask(t.Context(), name, queue.TaskMeta{Key: "key-of-" + name}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.system.CreateTicker(t.Context(), queue.TickerMeta{Name: "t" + name, Queue: &name, Period: new(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.CreateTask(t.Context(), "inv", queue.TaskMeta{}); err != nil {
		t.Fatal(err)
	}
	return f
}

// ask sends a request of REST as the owner of a token; "" sends none.
func (f *fenced) ask(as, method, path, body string, header ...string) (int, problem, string) {
	f.t.Helper()
	if body != "" {
		header = append(header, "Content-Type", restapi.MediaJSON)
	}
	code, answer, _ := send(f.t, f.client, method, f.URL()+path, f.tokens[as], []byte(body), append([]string{"Accept", restapi.MediaJSON}, header...)...)
	var p problem
	if code >= 400 && len(answer) > 0 {
		_ = json.Unmarshal(answer, &p) // an answer of the mux is plain text
	}
	return code, p, string(answer)
}

// state returns what a caller with a grant for mail alone must not change.
func (f *fenced) state() string {
	f.t.Helper()
	var all bytes.Buffer
	for _, path := range []string{"/api/queue", "/api/task?queue=bills", "/api/ticker/tbills", "/api/ticker/tbills/ticks", "/api/task?queue=inv&namespace=other"} {
		code, _, answer := f.ask("system", "GET", path, "")
		if code != http.StatusOK {
			f.t.Fatal(path, code, answer)
		}
		fmt.Fprintln(&all, path, answer)
	}
	return all.String()
}

// TestFencesOverTheWire tries the holes of other systems with a credential for one queue: research/access.md, sections 2.2
// and 2.10. Each is refused, and nothing beyond the fence changes.
func TestFencesOverTheWire(t *testing.T) {
	f := startFenced(t, map[string]string{"mail": "admin@default/mail", "other": "admin@other"})
	for _, name := range []string{"health", "livez", "readyz", "metrics", "docs", "ready"} {
		if _, err := f.system.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	before := f.state()

	for name, c := range map[string]struct {
		as, request, body string // request is a method and a path
		header            []string
		code              int
		kind, field       string
	}{
		"a batch with one foreign task":        {"mail", "POST /api/task/batch", `[{"queue":"mail"},{"queue":"bills"}]`, nil, 403, "permission_denied", "tasks[1].queue"},
		"a create in a foreign queue":          {"mail", "POST /api/task", `{"queue":"bills"}`, nil, 403, "permission_denied", ""},
		"a ticker into a foreign queue":        {"mail", "POST /api/ticker", `{"ticker":"x","queue":"bills","interval":"1h"}`, nil, 403, "permission_denied", "queue"},
		"a ticker into no queue":               {"mail", "POST /api/ticker", `{"ticker":"x","interval":"1h"}`, nil, 403, "permission_denied", ""},
		"a ticker moved into a foreign queue":  {"mail", "PATCH /api/ticker/tmail", `{"queue":"bills"}`, nil, 403, "permission_denied", "queue"},
		"a foreign ticker moved":               {"mail", "PATCH /api/ticker/tbills", `{"queue":"mail"}`, nil, 404, "not_found", ""},
		"a foreign ticker fired":               {"mail", "POST /api/ticker/tbills/run", "", nil, 404, "not_found", ""},
		"a foreign ticker deleted":             {"mail", "DELETE /api/ticker/tbills", "", nil, 404, "not_found", ""},
		"a name that a foreign ticker has":     {"mail", "POST /api/ticker", `{"ticker":"tbills","queue":"mail","interval":"1h"}`, nil, 409, "already_exists", ""},
		"a version across queues":              {"mail", "PATCH /api/queue/bills", `{"retries":1}`, []string{"If-Match", `"1"`}, 403, "permission_denied", ""},
		"a retain from two queues":             {"mail", "PUT /api/task?worker=w&queue=mail&queue=bills", "", nil, 403, "permission_denied", "queues[0]"},
		"a retain from any queue":              {"mail", "PUT /api/task?worker=w", "", nil, 403, "permission_denied", "queues"},
		"a list of all queues":                 {"mail", "GET /api/task", "", nil, 403, "permission_denied", "queue"},
		"a delete by the filter of all queues": {"mail", "POST /api/task/delete", `{"status":["new"]}`, nil, 403, "permission_denied", "queue"},
		"ids under a filter of the own queue":  {"mail", "POST /api/task/delete", `{"ids":[2],"queue":"mail"}`, nil, 422, "invalid", "ids"},
		"the ticks of all listeners":           {"mail", "GET /api/ticker/next", "", nil, 403, "permission_denied", ""},
		"the workers of all queues":            {"mail", "GET /api/worker", "", nil, 403, "permission_denied", ""},
		"the metrics":                          {"mail", "GET /api/metrics", "", nil, 403, "permission_denied", ""},
		"the tokens":                           {"mail", "GET /api/token", "", nil, 403, "permission_denied", ""},
		"a header against the query":           {"mail", "GET /api/queue?namespace=other", "", []string{"Pgqueue-Namespace", "default"}, 422, "invalid", "namespace"},
		"another namespace by header":          {"mail", "GET /api/queue/inv", "", []string{"Pgqueue-Namespace", "other"}, 403, "permission_denied", ""},
		"another namespace by query":           {"other", "GET /api/queue/mail?namespace=default", "", nil, 403, "permission_denied", ""},
		"a queue called health":                {"other", "GET /api/queue/health", "", nil, 403, "permission_denied", ""},
		"a queue called livez":                 {"", "GET /api/queue/livez", "", nil, 401, "unauthenticated", "Authorization"},
		"a queue called metrics":               {"", "PUT /api/task/metrics?worker=w", "", nil, 401, "unauthenticated", "Authorization"},
		"a queue called docs":                  {"mail", "GET /api/queue/docs/stats", "", nil, 403, "permission_denied", ""},
		"an empty secret":                      {"", "GET /api/queue", "", []string{"Authorization", "Bearer "}, 400, "invalid", "Authorization"},
		"a secret of the form alone":           {"", "GET /api/queue", "", []string{"Authorization", "Bearer pgq__"}, 401, "unauthenticated", "Authorization"},
		"another method by a header":           {"mail", "POST /api/queue/bills", "", []string{"X-HTTP-Method-Override", "DELETE"}, 405, "", ""},
		"another method by a second header":    {"mail", "GET /api/queue/bills", "", []string{"X-Method-Override", "DELETE"}, 403, "permission_denied", ""},
		"another path by a header":             {"mail", "GET /livez", "", []string{"X-Original-URL", "/api/queue/bills"}, 200, "", ""},
		"a HEAD":                               {"mail", "HEAD /api/queue/bills", "", nil, 403, "", ""},
		"a HEAD without a token":               {"", "HEAD /api/queue/bills", "", nil, 401, "", ""},
		"an OPTIONS without a token":           {"", "OPTIONS /api/queue/bills", "", nil, 401, "unauthenticated", "Authorization"},
		"a GET of a change":                    {"mail", "GET /api/queue/mail/pause", "", nil, 405, "", ""},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		code, p, answer := f.ask(c.as, method, path, c.body, c.header...)
		if code != c.code || c.kind != "" && (p.Code != c.kind || c.field != "" && p.Field != c.field) {
			t.Errorf("%s: %d %+v, want %d %s %s", name, code, p, c.code, c.kind, c.field)
		}
		if strings.Contains(answer, "key-of-bills") {
			t.Errorf("%s: %s", name, answer)
		}
	}

	// Other spellings of a path reach nothing beyond the fence either: a router and a check may read them differently.
	for _, path := range []string{
		"/api/queue/mail%2F..%2Fbills", "/api/queue/mail/../bills", "/api/queue/mail/%2e%2e/bills", "/api/queue/..%2fqueue%2fbills", "/api//queue/bills",
		"//api/queue/bills", "/api/queue/bills/", "/api/./queue/bills", "/livez/../api/queue/bills", "/docs/..%2Fapi/queue/bills", "/docs/%2e%2e/api/queue/bills",
		"/api/queue/BILLS", "/api/queue/%62ills", "/api/queue/bills%20", "/api/queue/bills;x=/livez", "/api/task/2?x=/livez", "/api/task/2%00", "/api/task/02", "/api/task/+2",
		"/api/task/%32", "/api/task/2.0", "/api/queue/bills?namespace=default&namespace=other",
	} {
		for _, as := range []string{"mail", ""} {
			code, _, answer := f.ask(as, "GET", path, "")
			if code < 300 || as == "" && code < 400 && code != http.StatusMovedPermanently && code != http.StatusTemporaryRedirect || strings.Contains(answer, "key-of-bills") {
				t.Errorf("GET %s as %q: %d %s", path, as, code, answer)
			}
		}
	}

	// A bulk call with ids of two queues treats the foreign one as if it did not exist.
	code, _, answer := f.ask("mail", "POST", "/api/task/cancel", `{"ids":[2,99]}`)
	if code != http.StatusOK || strings.Contains(answer, `"moved":1`) || strings.Count(answer, "no such task") != 2 {
		t.Errorf("a cancel of a foreign and an unknown task: %d %s", code, answer)
	}

	// The keys of another queue are not found.
	code, _, answer = f.ask("mail", "POST", "/api/task", `{"queue":"mail"}`, "Idempotency-Key", "key-of-bills")
	if code != http.StatusCreated || !strings.Contains(answer, `"queue":"mail"`) || strings.Contains(answer, `"id":2,`) {
		t.Errorf("a key that a foreign task has: %d %s", code, answer)
	}

	// Over RPC: a GET of a change, and a register with the name of a foreign ticker.
	for _, procedure := range []string{"TaskService/CreateTask", "QueueService/DeleteQueue", "TickerService/RunTicker"} {
		code, _, _ := f.ask("system", "GET", "/pgqueue.v1."+procedure+`?encoding=json&message=%7B%22queue%22%3A%22bills%22%7D`, "")
		if code != http.StatusMethodNotAllowed {
			t.Errorf("a GET of %s: %d", procedure, code)
		}
	}
	mail := dialAs(t, f.Server, "connect", f.tokens["mail"])
	if _, err := mail.RegisterTicker(t.Context(), queue.TickerMeta{Name: "tbills", Queue: new("mail"), Period: new(time.Minute)}); queue.KindOf(err) != queue.KindAlreadyExists {
		t.Errorf("a register of a foreign ticker: %v", err)
	}
	if after := f.state(); after != before {
		t.Errorf("the state beyond the fence is\n%s\nwas\n%s", after, before)
	}
}

// TestCursorsCarryNoRights: a cursor of another namespace or queue shows nothing of it, in lists, pages of events and the
// Last-Event-ID of a stream.
func TestCursorsCarryNoRights(t *testing.T) {
	f := startFenced(t, map[string]string{"mail": "viewer@default/mail"})
	for namespace, name := range map[string]string{"default": "bills", "other": "inv"} {
		svc, err := f.system.In(namespace)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := svc.CreateTask(t.Context(), name, queue.TaskMeta{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/api/event?limit=1", "/api/event?limit=1&namespace=other", "/api/task?limit=1&queue=bills", "/api/task?limit=1&queue=inv&namespace=other"} {
		_, _, answer := f.ask("system", "GET", path, "")
		var page struct{ Next string }
		if err := json.Unmarshal([]byte(answer), &page); err != nil || page.Next == "" {
			t.Fatal(path, answer, err)
		}
		target, header := "/api/task?queue=mail&cursor="+page.Next, ""
		if strings.HasPrefix(path, "/api/event") {
			target, header = "/api/event", page.Next
		}
		code, _, answer := f.ask("mail", "GET", target, "", "Last-Event-ID", header)
		if code != http.StatusOK || strings.Contains(answer, "bills") || strings.Contains(answer, "inv") {
			t.Errorf("the cursor %q of %s: %d %s", page.Next, path, code, answer)
		}
	}
}

// TestForeignAndUnknownTasksLookAlike: a caller with a grant for another queue cannot find out which ids exist.
func TestForeignAndUnknownTasksLookAlike(t *testing.T) {
	f := startFenced(t, map[string]string{"mail": "admin@default/mail"})
	const foreign, unknown = "2", "99999"
	bodies := map[string]string{"snooze-task": `{"delay":"1m"}`, "heartbeat-task": `{"token":1}`, "release-task": `{"fail":false}`}
	for _, r := range restapi.Routes() {
		if !strings.HasPrefix(r.Path, "/task/{id}") {
			continue
		}
		var answers []string
		for _, id := range []string{foreign, unknown} {
			code, p, _ := f.ask("mail", r.Method, "/api"+r.URL(id), bodies[r.ID])
			if code != http.StatusNotFound || p.Code != string(queue.KindNotFound) {
				t.Errorf("%s of %s: %d %+v", r.ID, id, code, p)
			}
			answers = append(answers, strings.ReplaceAll(p.Detail+p.Field, id, "ID"))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s answers %q for a foreign task and %q for an unknown one", r.ID, answers[0], answers[1])
		}
	}
}

// TestWorkStreamIsDecidedForEachMessage: the queues, the ids and the namespace of each message of a worker's stream are
// decided, not those of its beginning alone.
func TestWorkStreamIsDecidedForEachMessage(t *testing.T) {
	f := startFenced(t, map[string]string{"mail": "worker@default/mail", "viewer": "viewer@default"})
	for _, way := range []string{"connect", "grpc"} {
		client := dialAs(t, f.Server, way, f.tokens["mail"]).(*connectclient.Client)
		stream := connectclient.NewStream(client)
		t.Cleanup(stream.Close)

		// The first message takes a task of the own queue, so the stream is open.
		tasks, err := stream.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 1})
		if err != nil || len(tasks) != 1 || tasks[0].Queue != "mail" {
			t.Fatalf("%s: %v, %v", way, tasks, err)
		}
		for _, queues := range [][]string{{"bills"}, {"mail", "bills"}, nil} {
			if tasks, err := stream.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: queues, Limit: 1}); queue.KindOf(err) != queue.KindDenied {
				t.Errorf("%s: a retain from %v: %v, %v", way, queues, tasks, err)
			}
		}
		if beats, _ := stream.HeartbeatTasks(t.Context(), []queue.Heartbeat{{ID: 2, Token: 1}}); len(beats) != 1 || queue.KindOf(beats[0].Err) != queue.KindNotFound {
			t.Errorf("%s: a heartbeat of a foreign task: %+v", way, beats)
		}
		released, _ := stream.ReleaseTasks(t.Context(), []queue.Release{
			{ID: 2, Token: 1, Outcome: queue.OutcomeSuccess}, {ID: tasks[0].ID, Token: tasks[0].Lease.Token, Outcome: queue.OutcomeHandBack},
		})
		if len(released) != 2 || queue.KindOf(released[0].Err) != queue.KindNotFound || released[1].Err != nil {
			t.Errorf("%s: releases of a foreign and an own task: %+v", way, released)
		}
		if other, err := stream.In("other"); err == nil {
			if _, err := other.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 1}); queue.KindOf(err) != queue.KindDenied {
				t.Errorf("%s: a stream in another namespace: %v", way, err)
			}
		}

		viewer := connectclient.NewStream(dialAs(t, f.Server, way, f.tokens["viewer"]).(*connectclient.Client))
		t.Cleanup(viewer.Close)
		if _, err := viewer.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 1}); queue.KindOf(err) != queue.KindDenied {
			t.Errorf("%s: a stream of a viewer: %v", way, err)
		}
	}
}
