package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// showsContent has each operation that reads, and each that an observer may call. The value says whether a viewer reads contents
// by it: payloads, results, headers, progress and errors. An operation without a row fails the test.
var showsContent = map[queue.Op]bool{
	queue.OpListNamespaces: false,

	queue.OpGetTask:   true,
	queue.OpListTasks: true,
	queue.OpAwaitTask: true,

	queue.OpGetQueue:          false,
	queue.OpListQueues:        false,
	queue.OpListGroups:        false,
	queue.OpQueueStats:        false,
	queue.OpQueueHistory:      false,
	queue.OpListQueueStatuses: false,
	queue.OpExplainTask:       false,
	queue.OpExplainQueue:      false,
	queue.OpListFailures:      true,

	queue.OpGetTicker:     true,
	queue.OpListTickers:   true,
	queue.OpPreviewTicker: false,
	queue.OpUpcomingTicks: false,
	queue.OpListTicks:     true,

	queue.OpListEvents:      false,
	queue.OpSubscribeEvents: false,
	queue.OpLastEvent:       false,
	queue.OpListWorkers:     false,

	queue.OpListTokens:   false,
	queue.OpWhoAmI:       false,
	queue.OpCan:          false,
	queue.OpListAudit:    false,
	queue.OpCreateCode:   false,
	queue.OpOpenSession:  false,
	queue.OpListSessions: false,
	queue.OpSignOut:      false,

	queue.OpPing:      false,
	queue.OpDiagnose:  false,
	queue.OpListCells: false,
}

// withoutWay are operations of showsContent that no route and no procedure calls by its name.
var withoutWay = []queue.Op{queue.OpLastEvent, queue.OpPing}

// contentWay is one way to an operation of showsContent.
type contentWay struct {
	op queue.Op
	// read returns the answers that the owner of a token gets, by their names, and whether one of them was not refused.
	read func(as string) (answers map[string]string, accepted bool)
}

// TestObserverReadsNoContent reads everything that an observer may read, over REST, server-sent events and RPC, of tasks in
// each state with marked contents, and of tickers with marked payloads. A viewer sees the mark in each way to an operation that
// shows contents, and in no other one. The ways follow from the table of operations.
func TestObserverReadsNoContent(t *testing.T) {
	f := startFenced(t, map[string]string{"observer": "observer@default", "fenced": "observer@default/mail", "viewer": "viewer@default"})
	const mark = "MARKED0CONTENT0THAT0IS0SECRET"
	ways := f.contentWays(f.markTasks(mark))
	checkPlaced(t, ways)

	for _, name := range slices.Sorted(maps.Keys(ways)) {
		way := ways[name]
		e := newEndpoint(name, way.op)
		for _, as := range []string{"observer", "fenced"} {
			answers, accepted := way.read(as)
			for where, answer := range answers {
				if form := findSecret(answer, mark); form != "" {
					t.Errorf("%s reads the content at %s as %s: %.300s", as, where, form, answer)
				}
			}
			if as == "observer" && accepted != (e.may(access.RoleObserver) && !isSignInOp(way.op)) {
				t.Errorf("an observer gets an answer of %s: %v; it needs %s: %.300v", name, accepted, e.actions, answers)
			}
		}

		answers, _ := way.read("viewer")
		sees := findSecret(fmt.Sprint(answers), mark) != ""
		if sees != showsContent[way.op] {
			t.Errorf("a viewer sees the mark by %s: %v, want %v: %.300v", name, sees, showsContent[way.op], answers)
		}
	}

	for name, part := range map[string]string{"REST " + restapi.ListGroups.ID: `"tenant"`, "REST " + restapi.ExplainTask.ID: `"group_concurrency"`} {
		if answers, _ := ways[name].read("observer"); !strings.Contains(fmt.Sprint(answers), part) {
			t.Errorf("an observer does not see %s by %s, so this test proves nothing there: %v", part, name, answers)
		}
	}

	// A stream of ticks has their payloads. Its owner settles them, so a reader has no right to it.
	for _, as := range []string{"observer", "fenced", "viewer"} {
		for _, r := range []restapi.Route{restapi.ListTickers, restapi.NextTicker} {
			if code, _, answer := f.ask(as, r.Method, "/api"+r.Path, "", "Accept", restapi.MediaEventStream); code != http.StatusForbidden {
				t.Errorf("%s streams ticks by %s: %d %.300s", as, r.ID, code, answer)
			}
		}
	}

	// A search by contents would show them bit by bit.
	for as, want := range map[string]int{"observer": http.StatusForbidden, "fenced": http.StatusForbidden, "viewer": http.StatusOK} {
		if code, _, answer := f.ask(as, "GET", "/api/task?queue=mail&text="+mark, ""); code != want {
			t.Errorf("%s searches payloads: %d %.300s", as, code, answer)
		}
		message := []byte(`{"filter":{"queue":"mail","text":"` + mark + `"}}`)
		code, answer, _ := send(t, f.client, "POST", f.URL()+"/pgqueue.v1.TaskService/ListTasks", f.tokens[as], message, "Content-Type", "application/json")
		if code != want {
			t.Errorf("%s searches payloads over RPC: %d %.300s", as, code, answer)
		}
	}
}

// isSignInOp reports whether op needs another credential than a token.
func isSignInOp(op queue.Op) bool { return op == queue.OpOpenSession || op == queue.OpSignOut }

// checkPlaced checks that showsContent has the operations that it says, and each of them a way.
func checkPlaced(t *testing.T, ways map[string]contentWay) {
	t.Helper()
	reached := map[queue.Op]bool{}
	for _, way := range ways {
		reached[way.op] = true
	}
	for _, op := range queue.Ops() {
		row := op.Operation()
		_, placed := showsContent[op]
		if needed := row.Action != "" && (op.Reads() || newEndpoint("", op).may(access.RoleObserver)); placed != needed {
			t.Errorf("%s must have a row in showsContent: %v, got one: %v", row.Method, needed, placed)
		}
		if placed && reached[op] == slices.Contains(withoutWay, op) {
			t.Errorf("%s has a route or a procedure: %v", row.Method, reached[op])
		}
	}
}

// contentWays returns the ways to the operations of showsContent: each route, also as a stream, and each procedure.
func (f *fenced) contentWays(ids []int64) map[string]contentWay {
	f.t.Helper()
	ways := map[string]contentWay{}
	parameters := f.optionalParameters()
	for _, r := range restapi.Routes() {
		if _, placed := showsContent[r.Op]; !placed {
			continue
		}
		ways["REST "+r.ID] = contentWay{r.Op, func(as string) (map[string]string, bool) { return f.readRoute(as, r, ids, parameters[r.ID]) }}
	}
	ways["SSE "+restapi.ListEvents.ID] = contentWay{queue.OpListEvents, func(as string) (map[string]string, bool) {
		text := f.readEvents(as)
		return map[string]string{"SSE": text}, strings.Count(text, "event: task") >= 5
	}}
	ways["SSE "+restapi.ListStats.ID] = contentWay{queue.OpListQueueStatuses, func(as string) (map[string]string, bool) {
		text := f.readStream(as, restapi.ListStats.Path, "", "event: stats\n")
		return map[string]string{"SSE": text}, strings.Contains(text, `"queue":"mail"`)
	}}

	ops := map[string]queue.Op{}
	for op := range showsContent {
		ops[op.Operation().Method] = op
	}
	for method, op := range methodOps {
		if _, placed := showsContent[op]; placed {
			ops[method] = op
		}
	}
	for service, methods := range rpcServices() {
		for _, method := range methods {
			if op, ok := ops[string(method.Name())]; ok {
				ways["RPC "+string(method.Name())] = contentWay{op, func(as string) (map[string]string, bool) { return f.readProcedure(as, service, method, ids) }}
			}
		}
	}
	return ways
}

// optionalParameters returns the optional parameters of each route as the OpenAPI document has them, by the ids of the routes.
func (f *fenced) optionalParameters() map[string][]string {
	f.t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	_, text := do(f.t, http.MethodGet, f.URL()+"/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		f.t.Fatal(err)
	}
	all := map[string][]string{}
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			var op documented
			if err := json.Unmarshal(raw, &op); err != nil || op.OperationID == "" {
				continue // a part that belongs to all methods of the path
			}
			for name, example := range op.newRequest(method, path, nil).examples {
				example = strings.Trim(example, `["]`)
				if name == "wait" {
					example = "1ms"
				}
				all[op.OperationID] = append(all[op.OperationID], name+"="+example)
			}
		}
	}
	return all
}

// readRoute reads a route for each id of a task and each ticker, plainly and with each parameter.
func (f *fenced) readRoute(as string, r restapi.Route, ids []int64, parameters []string) (answers map[string]string, accepted bool) {
	f.t.Helper()
	paths := []string{r.URL("mail")}
	switch {
	case strings.HasPrefix(r.Path, "/ticker/{"):
		paths = []string{r.URL("tmail"), r.URL("marked")}
	case strings.Contains(r.Path, "{id}"):
		paths = nil
		for _, id := range ids {
			paths = append(paths, r.URL(fmt.Sprint(id)))
		}
	case r == restapi.Can:
		paths = []string{r.Path + "?action=task.payload"}
	}
	answers = map[string]string{}
	for _, path := range paths {
		for _, parameter := range append([]string{"", "queue=mail"}, parameters...) {
			target := path
			if parameter != "" {
				target += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + parameter
			}
			code, _, answer := f.ask(as, r.Method, "/api"+target, "")
			answers["REST "+target] = answer
			accepted = accepted || code < 300
		}
	}
	return answers, accepted
}

// readProcedure calls a procedure for each id of a task. Of a stream it reads the events of the tasks, or the first message.
func (f *fenced) readProcedure(as, service string, method protoreflect.MethodDescriptor, ids []int64) (answers map[string]string, accepted bool) {
	f.t.Helper()
	target := f.URL() + "/" + service + "/" + string(method.Name())
	if method.IsStreamingServer() {
		first, last := f.eventCursors()
		text := f.readMessages(as, target, `{"filter":{"queue":"mail","after":"`+first+`"}}`, last)
		return map[string]string{"RPC " + string(method.Name()): text}, strings.Contains(text, last)
	}

	answers = map[string]string{}
	for _, id := range ids {
		for _, ticker := range []string{"tmail", "marked"} {
			example := exampleMessage(method.Input(), 0)
			fitMessage(example, fmt.Sprint(id), ticker)
			if method.Input().Fields().ByName("n") != nil {
				example["n"] = "3"
			}
			text, err := json.Marshal(example)
			if err != nil {
				f.t.Fatal(err)
			}
			code, answer, header := send(f.t, f.client, "POST", target, f.tokens[as], text, "Content-Type", "application/json", "Connect-Protocol-Version", "1")
			answers[fmt.Sprintf("RPC %s %d %s", method.Name(), id, ticker)] = string(answer) + fmt.Sprint(header)
			accepted = accepted || code == http.StatusOK
		}
	}
	return answers, accepted
}

// fitMessage makes an example message name a task and a ticker. It removes the filter by a worker, which would leave out tasks
// that none holds.
func fitMessage(message map[string]any, id, ticker string) {
	for name, value := range message {
		switch value := value.(type) {
		case map[string]any:
			fitMessage(value, id, ticker)
		case string:
			switch {
			case name == "worker":
				delete(message, name)
			case name == "ticker":
				message[name] = ticker
			case name == "id" && value == "1":
				message[name] = id
			}
		}
	}
}

// readMessages sends the message of a stream in JSON, and reads the answers until one has the text, or the stream ends.
func (f *fenced) readMessages(as, target, message, text string) string {
	f.t.Helper()
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, target, bytes.NewReader(frame))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("Connect-Protocol-Version", "1")
	return f.readUntil(as, req, func(answer []byte) bool {
		for len(answer) >= 5 {
			end := 5 + int(binary.BigEndian.Uint32(answer[1:]))
			if len(answer) < end {
				return false
			}
			if bytes.Contains(answer[5:end], []byte(text)) {
				return true
			}
			answer = answer[end:]
		}
		return false
	})
}

// readStream reads the stream of server-sent events of a path until the end of the event that has a line.
func (f *fenced) readStream(as, path, after, line string) string {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.URL()+"/api"+path, http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", after)
	req.Header.Set("Accept", restapi.MediaEventStream)
	return f.readUntil(as, req, func(answer []byte) bool {
		_, rest, found := bytes.Cut(answer, []byte(line))
		return found && bytes.Contains(rest, []byte("\n\n"))
	})
}

// readUntil sends a request and reads the answer until it is complete, or ends.
func (f *fenced) readUntil(as string, req *http.Request, complete func(answer []byte) bool) string {
	f.t.Helper()
	req.Header.Set("Authorization", "Bearer "+f.tokens[as])
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	for buf := make([]byte, 4096); !complete(text.Bytes()); {
		n, err := resp.Body.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	return text.String()
}

// markTasks makes tasks of mail in each state with the mark in each part of their content, and returns their ids.
func (f *fenced) markTasks(mark string) []int64 {
	f.t.Helper()
	ctx, content := f.t.Context(), json.RawMessage(`{"x":"`+mark+`"}`)
	check := func(err error) {
		f.t.Helper()
		if err != nil {
			f.t.Fatal(err)
		}
	}
	_, err := f.system.UpdateQueue(ctx, "mail", queue.QueueMeta{RetryDelay: new(time.Hour)})
	check(err)
	_, err = f.system.UpdateTicker(ctx, "tmail", queue.TickerMeta{Payload: content})
	check(err)
	_, err = f.system.RunTicker(ctx, "tmail")
	check(err)
	_, err = f.system.CreateTicker(ctx, queue.TickerMeta{Name: "marked", Payload: content, Period: new(time.Hour)})
	check(err)

	var ids []int64
	outcomes := []queue.Release{
		{Outcome: queue.OutcomeSuccess, Result: content},
		{Outcome: queue.OutcomeFailure, Result: content},
		{Outcome: queue.OutcomePermanent, Result: content},
		{Outcome: queue.OutcomeSnooze, Delay: time.Hour},
	}
	_, err = f.system.CancelTasks(ctx, queue.Selection{IDs: []int64{1}})
	check(err)
	for range len(outcomes) + 2 { // two stay retained
		task, err := f.system.CreateTask(ctx, "mail", queue.TaskMeta{Payload: content, Headers: map[string]string{"h": mark}})
		check(err)
		ids = append(ids, task.ID)
	}
	tasks, err := f.system.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 100})
	check(err)
	for i, id := range ids {
		at := slices.IndexFunc(tasks, func(task *queue.Task) bool { return task.ID == id })
		_, err = f.system.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: id, Token: tasks[at].Lease.Token, Progress: content}})
		check(err)
		if i < len(outcomes) {
			release := outcomes[i]
			release.ID, release.Token = id, tasks[at].Lease.Token
			_, err = f.system.ReleaseTasks(ctx, []queue.Release{release})
			check(err)
		}
	}
	// The cancellation of a retained task is a request, and that of a waiting task its end.
	task, err := f.system.CreateTask(ctx, "mail", queue.TaskMeta{Payload: content, Delay: time.Hour})
	check(err)
	ids = append(ids, task.ID)
	_, err = f.system.CancelTasks(ctx, queue.Selection{IDs: ids[len(ids)-2:]})
	check(err)

	// One task of a group holds up another one, so the groups and the explanations have something to show.
	_, err = f.system.UpdateQueue(ctx, "mail", queue.QueueMeta{FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
	check(err)
	for range 2 {
		task, err := f.system.CreateTask(ctx, "mail", queue.TaskMeta{Payload: content, Group: "tenant"})
		check(err)
		ids = append(ids, task.ID)
	}
	tasks, err = f.system.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 2})
	check(err)
	if len(tasks) != 1 {
		f.t.Fatalf("%d tasks of the group are retained, want 1", len(tasks))
	}
	for status, want := range map[queue.Status]int64{
		queue.StatusReleased: 1, queue.StatusRetry: 1, queue.StatusFailed: 1, queue.StatusRetained: 3, queue.StatusCancelled: 2,
	} {
		page, err := f.system.ListTasks(ctx, queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "mail", Statuses: []queue.Status{status}}})
		check(err)
		if int64(len(page.Tasks)) < want {
			f.t.Fatalf("%d tasks are %s, want %d", len(page.Tasks), status, want)
		}
	}
	return ids
}

// readEvents follows the events of mail from the beginning until the last one that exists.
func (f *fenced) readEvents(as string) string {
	f.t.Helper()
	first, last := f.eventCursors()
	return f.readStream(as, restapi.ListEvents.Path+"?queue=mail", first, "id: "+last+"\n")
}

// eventCursors returns the cursors of the beginning of the feed and of the last event of mail.
func (f *fenced) eventCursors() (first, last string) {
	f.t.Helper()
	var page struct {
		Next string
		Body []struct{ Cursor string }
	}
	_, _, answer := f.ask("system", "GET", "/api/event?limit=1", "")
	if err := json.Unmarshal([]byte(answer), &page); err != nil {
		f.t.Fatal(answer, err)
	}
	first = page.Next
	_, _, answer = f.ask("system", "GET", "/api/event?limit=1000&queue=mail", "")
	if err := json.Unmarshal([]byte(answer), &page); err != nil || len(page.Body) == 0 {
		f.t.Fatal(answer, err)
	}
	return first, page.Body[len(page.Body)-1].Cursor
}
