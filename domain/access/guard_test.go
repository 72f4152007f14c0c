package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// fakeService has the queues mail and bills, a task and a ticker in each, and a ticker without a queue. It counts the calls
// that reach it. Methods that it lacks panic.
type fakeService struct {
	queue.Service
	namespace string
	reached   *[]string
}

const secret = "CONTENT-THAT-AN-OBSERVER-MUST-NOT-SEE"

var (
	taskQueues   = map[int64]string{1: "mail", 2: "bills"}
	tickerQueues = map[string]string{"tmail": "mail", "tbills": "bills", "tnone": ""}
)

func newFakeService() fakeService { return fakeService{namespace: "own", reached: new([]string)} }

func (f fakeService) note(name string) { *f.reached = append(*f.reached, name) }

func content() json.RawMessage { return json.RawMessage(`"` + secret + `"`) }

func fakeTask(id int64) (*queue.Task, error) {
	name, ok := taskQueues[id]
	if !ok {
		return nil, queue.NotFoundTask(id)
	}
	return &queue.Task{
		ID: id, Namespace: "own", Queue: name, Payload: content(), Result: content(), Progress: content(),
		Headers: map[string]string{"h": secret}, Errors: []queue.AttemptError{{Attempt: 1, Error: content(), Kind: secret, Fingerprint: secret}},
	}, nil
}

func fakeTicker(name string) (*queue.Ticker, error) {
	q, ok := tickerQueues[name]
	if !ok {
		return nil, queue.NotFoundTicker(name)
	}
	return &queue.Ticker{
		Namespace: "own", Name: name, Queue: q, Payload: content(), Period: time.Hour, NextAt: time.Now().Add(time.Hour),
	}, nil
}

func (f fakeService) Namespace() string { return f.namespace }

func (f fakeService) In(namespace string) (queue.Service, error) {
	f.namespace = namespace
	return f, nil
}

func (f fakeService) ListNamespaces(context.Context) ([]string, error) {
	f.note("ListNamespaces")
	return []string{"other", "own"}, nil
}

func (f fakeService) CreateTask(context.Context, string, queue.TaskMeta) (*queue.Task, error) {
	f.note("CreateTask")
	return fakeTask(1)
}

func (f fakeService) CreateTasks(context.Context, []queue.NewTask) ([]*queue.Task, error) {
	f.note("CreateTasks")
	return nil, nil
}

func (f fakeService) RetainTasks(ctx context.Context, r queue.RetainRequest) ([]*queue.Task, error) {
	f.note("RetainTasks")
	if r.Wait > 0 {
		return nil, waitFor(ctx, r.Wait)
	}
	return nil, nil
}

// waitFor waits for d or the end of ctx, and returns the error of the latter as an operation does.
func waitFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return &queue.Error{Kind: queue.KindCanceled, Err: ctx.Err()}
	case <-time.After(d):
		return nil
	}
}

func (f fakeService) HeartbeatTasks(_ context.Context, beats []queue.Heartbeat) ([]queue.Beat, error) {
	f.note(fmt.Sprint("HeartbeatTasks ", len(beats)))
	answers := make([]queue.Beat, len(beats))
	for i, b := range beats {
		_, answers[i].Err = fakeTask(b.ID)
	}
	return answers, nil
}

func (f fakeService) ReleaseTasks(_ context.Context, releases []queue.Release) ([]queue.Released, error) {
	f.note(fmt.Sprint("ReleaseTasks ", len(releases)))
	answers := make([]queue.Released, len(releases))
	for i, r := range releases {
		answers[i].Task, answers[i].Err = fakeTask(r.ID)
	}
	return answers, nil
}

func (f fakeService) GetTask(_ context.Context, id int64) (*queue.Task, error) {
	f.note("GetTask")
	return fakeTask(id)
}

func (f fakeService) ListTasks(_ context.Context, q queue.TaskQuery) (queue.TaskPage, error) {
	f.note("ListTasks")
	var page queue.TaskPage
	for id := range int64(3) {
		if t, err := fakeTask(id); err == nil && (q.Queue == "" || q.Queue == t.Queue) {
			page.Tasks = append(page.Tasks, t)
		}
	}
	return page, nil
}

func (f fakeService) bulk(name string, s queue.Selection) (queue.Bulk, error) {
	f.note(name)
	b := queue.Bulk{Errs: map[int64]error{}}
	for _, id := range s.IDs {
		if _, err := fakeTask(id); err != nil {
			b.Errs[id] = err
		} else {
			b.Moved++
		}
	}
	return b, nil
}

func (f fakeService) CancelTasks(_ context.Context, s queue.Selection) (queue.Bulk, error) {
	return f.bulk("CancelTasks", s)
}

func (f fakeService) RetryTasks(_ context.Context, s queue.Selection) (queue.Bulk, error) {
	return f.bulk("RetryTasks", s)
}

func (f fakeService) DeleteTasks(_ context.Context, s queue.Selection) (queue.Bulk, error) {
	return f.bulk("DeleteTasks", s)
}

func (f fakeService) AwaitTask(ctx context.Context, id int64, wait time.Duration) (*queue.Task, error) {
	f.note("AwaitTask")
	if wait > 0 {
		return nil, waitFor(ctx, wait)
	}
	return fakeTask(id)
}

func (f fakeService) queue(method, name string) (*queue.Queue, error) {
	f.note(method)
	return &queue.Queue{Name: name}, nil
}

func (f fakeService) CreateQueue(_ context.Context, m queue.QueueMeta) (*queue.Queue, error) {
	return f.queue("CreateQueue", m.Name)
}

func (f fakeService) RegisterQueue(_ context.Context, m queue.QueueMeta) (*queue.Queue, error) {
	return f.queue("RegisterQueue", m.Name)
}

func (f fakeService) GetQueue(_ context.Context, name string) (*queue.Queue, error) {
	return f.queue("GetQueue", name)
}

func (f fakeService) UpdateQueue(_ context.Context, name string, _ queue.QueueMeta) (*queue.Queue, error) {
	return f.queue("UpdateQueue", name)
}

func (f fakeService) DeleteQueue(_ context.Context, name string, _ ...queue.DeleteCondition) (*queue.Queue, error) {
	return f.queue("DeleteQueue", name)
}

func (f fakeService) CleanQueue(context.Context, string, ...queue.IfVersion) (int64, error) {
	f.note("CleanQueue")
	return 5, nil
}

func (f fakeService) ListGroups(context.Context, string, queue.GroupQuery) (queue.GroupPage, error) {
	f.note("ListGroups")
	return queue.GroupPage{}, nil
}

func (f fakeService) UpdateGroup(context.Context, string, string, queue.GroupMeta) (*queue.Group, error) {
	f.note("UpdateGroup")
	return &queue.Group{}, nil
}

func (f fakeService) UnblockGroup(context.Context, string, string) (*queue.Group, error) {
	f.note("UnblockGroup")
	return &queue.Group{}, nil
}

func (f fakeService) CleanQueueWithin(context.Context, string, time.Duration, ...queue.IfVersion) (queue.Cleaned, error) {
	f.note("CleanQueueWithin")
	return queue.Cleaned{}, nil
}

// ListQueues gives one queue a page, so that a reader of all pages must follow the cursors.
func (f fakeService) ListQueues(_ context.Context, p queue.Page) (queue.QueuePage, error) {
	f.note("ListQueues")
	if p.Cursor == "" {
		return queue.QueuePage{Queues: []*queue.Queue{{Name: "bills"}}, Count: 2, Next: "bills"}, nil
	}
	return queue.QueuePage{Queues: []*queue.Queue{{Name: "mail"}}, Count: 2}, nil
}

func (f fakeService) QueueStats(_ context.Context, name string) (*queue.QueueStats, error) {
	f.note("QueueStats")
	return &queue.QueueStats{Queue: name}, nil
}

func (f fakeService) ListQueueStatuses(context.Context) ([]*queue.QueueStats, error) {
	f.note("ListQueueStatuses")
	return []*queue.QueueStats{{Queue: "bills"}, {Queue: "mail"}}, nil
}

func (f fakeService) explain(method, name string) *queue.Explanation {
	f.note(method)
	hold := &queue.Hold{Task: 1, Worker: "w"}
	return &queue.Explanation{Queue: name, Reasons: []queue.Reason{{Code: queue.ReasonConcurrency, Hold: hold}}}
}

func (f fakeService) ExplainTask(_ context.Context, id int64) (*queue.Explanation, error) {
	e := f.explain("ExplainTask", taskQueues[id])
	_, err := fakeTask(id)
	return e, err
}

func (f fakeService) ExplainQueue(_ context.Context, name string) (*queue.Explanation, error) {
	return f.explain("ExplainQueue", name), nil
}

func (f fakeService) ListFailures(_ context.Context, name string, _ queue.FailureQuery) (*queue.Failures, error) {
	f.note("ListFailures")
	g := queue.NewFailureGrouper("own", name)
	g.Add(queue.Failure{Task: 1, Error: content()})
	return g.Result(), nil
}

func (f fakeService) QueueHistory(_ context.Context, name string, _ queue.HistoryQuery) (*queue.QueueHistory, error) {
	f.note("QueueHistory")
	return &queue.QueueHistory{Queue: name}, nil
}

func (f fakeService) CreateTicker(_ context.Context, m queue.TickerMeta) (*queue.Ticker, error) {
	f.note("CreateTicker")
	return &queue.Ticker{Name: m.Name}, nil
}

func (f fakeService) RegisterTicker(_ context.Context, m queue.TickerMeta) (*queue.Ticker, error) {
	f.note("RegisterTicker")
	return &queue.Ticker{Name: m.Name}, nil
}

// GetTicker is not noted: the guard reads tickers to decide.
func (f fakeService) GetTicker(_ context.Context, name string) (*queue.Ticker, error) {
	return fakeTicker(name)
}

func (f fakeService) ListTickers(context.Context, queue.Page) (queue.TickerPage, error) {
	f.note("ListTickers")
	var page queue.TickerPage
	for _, name := range []string{"tbills", "tmail", "tnone"} {
		t, _ := fakeTicker(name)
		page.Tickers = append(page.Tickers, t)
	}
	page.Count = 3
	return page, nil
}

func (f fakeService) UpdateTicker(_ context.Context, name string, _ queue.TickerMeta) (*queue.Ticker, error) {
	f.note("UpdateTicker")
	return fakeTicker(name)
}

func (f fakeService) DeleteTicker(_ context.Context, name string, _ ...queue.IfVersion) (*queue.Ticker, error) {
	f.note("DeleteTicker")
	return fakeTicker(name)
}

func (f fakeService) PreviewTicker(_ context.Context, name string, _ int) ([]time.Time, error) {
	f.note("PreviewTicker")
	_, err := fakeTicker(name)
	return nil, err
}

func (f fakeService) UpcomingTicks(context.Context, queue.UpcomingQuery) (*queue.Upcoming, error) {
	f.note("UpcomingTicks")
	return &queue.Upcoming{}, nil
}

func (f fakeService) RunTicker(_ context.Context, name string, _ ...queue.IfVersion) (*queue.Tick, error) {
	f.note("RunTicker")
	_, err := fakeTicker(name)
	return nil, err
}

func (f fakeService) ListTicks(_ context.Context, name string, _ int) ([]queue.Tick, error) {
	f.note("ListTicks")
	if _, err := fakeTicker(name); err != nil {
		return nil, err
	}
	return []queue.Tick{{Ticker: name, Queue: tickerQueues[name], Payload: content()}}, nil
}

func (f fakeService) RunTickerLoop(ctx context.Context, _ func(context.Context, queue.Tick) error) error {
	f.note("RunTickerLoop")
	<-ctx.Done()
	return &queue.Error{Kind: queue.KindCanceled, Err: ctx.Err()}
}

func (f fakeService) ListEvents(context.Context, queue.EventFilter, int) (queue.EventPage, error) {
	f.note("ListEvents")
	return queue.EventPage{Events: []queue.Event{{Queue: "mail"}, {Queue: "bills"}}}, nil
}

func (f fakeService) SubscribeEvents(ctx context.Context, _ queue.EventFilter, handle func(queue.Event) error) error {
	f.note("SubscribeEvents")
	for _, name := range []string{"mail", "bills"} {
		if err := handle(queue.Event{Queue: name}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return &queue.Error{Kind: queue.KindCanceled, Err: ctx.Err()}
}

func (f fakeService) LastEvent(context.Context) (string, error) {
	f.note("LastEvent")
	return "1", nil
}

func (f fakeService) ListWorkers(context.Context) ([]queue.Worker, error) {
	f.note("ListWorkers")
	return nil, nil
}

// taskQueuesFake reads the queues of the tasks of fakeService.
type taskQueuesFake struct{}

func (taskQueuesFake) QueuesOfTasks(_ context.Context, _ string, ids []int64) (map[int64]string, error) {
	queues := map[int64]string{}
	for _, id := range ids {
		if name, ok := taskQueues[id]; ok {
			queues[id] = name
		}
	}
	return queues, nil
}

// form says how an operation is tied to queues.
type form uint8

const (
	byName   form = iota // names a queue; another queue is denied
	byID                 // names a task or a ticker; that of another queue does not exist
	byList               // shows the visible part
	byWhole              // needs the whole namespace
	byFilter             // names a queue, or needs the whole namespace
)

// guarded has a row for each operation of a Service: its form, the actions that it needs (all of them; an action with "|"
// needs one of two), and a call.
var guarded = map[string]struct {
	form    form
	actions string
	call    func(ctx context.Context, s queue.Service, name string, id int64) error
}{
	"ListNamespaces": {byList, "namespace.list", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.ListNamespaces(ctx)
		return err
	}},
	"CreateTask": {byName, "task.create", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.CreateTask(ctx, name, queue.TaskMeta{})
		return err
	}},
	"CreateTasks": {byName, "task.create", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.CreateTasks(ctx, []queue.NewTask{{Queue: name}})
		return err
	}},
	"RetainTasks": {byFilter, "task.work", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		r := queue.RetainRequest{Worker: "w"}
		if name != "" {
			r.Queues = []string{name}
		}
		_, err := s.RetainTasks(ctx, r)
		return err
	}},
	"HeartbeatTasks": {byID, "task.work", func(ctx context.Context, s queue.Service, _ string, id int64) error {
		answers, err := s.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: id}})
		if len(answers) > 0 {
			return answers[0].Err
		}
		return err
	}},
	"ReleaseTasks": {byID, "task.work", func(ctx context.Context, s queue.Service, _ string, id int64) error {
		answers, err := s.ReleaseTasks(ctx, []queue.Release{{ID: id}})
		if len(answers) > 0 {
			return answers[0].Err
		}
		return err
	}},
	"GetTask": {byID, "task.read|task.result", func(ctx context.Context, s queue.Service, _ string, id int64) error {
		_, err := s.GetTask(ctx, id)
		return err
	}},
	"ListTasks": {byFilter, "task.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.ListTasks(ctx, queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: name}})
		return err
	}},
	"CancelTasks": {byID, "task.operate", callBulk(queue.Service.CancelTasks)},
	"RetryTasks":  {byID, "task.operate", callBulk(queue.Service.RetryTasks)},
	"DeleteTasks": {byID, "task.operate", callBulk(queue.Service.DeleteTasks)},
	"AwaitTask": {byID, "task.result", func(ctx context.Context, s queue.Service, _ string, id int64) error {
		_, err := s.AwaitTask(ctx, id, 0)
		return err
	}},
	"CreateQueue": {byName, "queue.manage", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.CreateQueue(ctx, queue.QueueMeta{Name: name})
		return err
	}},
	"RegisterQueue": {byName, "queue.manage", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.RegisterQueue(ctx, queue.QueueMeta{Name: name})
		return err
	}},
	"GetQueue": {byName, "queue.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.GetQueue(ctx, name)
		return err
	}},
	"ListQueues": {byList, "queue.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.ListQueues(ctx, queue.Page{})
		return err
	}},
	"UpdateQueue": {byName, "queue.manage", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.UpdateQueue(ctx, name, queue.QueueMeta{Retries: new(3), Paused: new(true)})
		return err
	}},
	"DeleteQueue": {byName, "queue.manage", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.DeleteQueue(ctx, name)
		return err
	}},
	"CleanQueue": {byName, "task.operate", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.CleanQueue(ctx, name)
		return err
	}},
	"CleanQueueWithin": {byName, "task.operate", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.CleanQueueWithin(ctx, name, time.Second)
		return err
	}},
	"ListGroups": {byName, "queue.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.ListGroups(ctx, name, queue.GroupQuery{})
		return err
	}},
	"UpdateGroup": {byName, "queue.manage", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.UpdateGroup(ctx, name, "g", queue.GroupMeta{Weight: new(2)})
		return err
	}},
	"UnblockGroup": {byName, "task.operate", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.UnblockGroup(ctx, name, "g")
		return err
	}},
	"QueueStats": {byName, "queue.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.QueueStats(ctx, name)
		return err
	}},
	"ListQueueStatuses": {byList, "queue.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.ListQueueStatuses(ctx)
		return err
	}},
	"ExplainTask": {byID, "task.read", func(ctx context.Context, s queue.Service, _ string, id int64) error {
		_, err := s.ExplainTask(ctx, id)
		return err
	}},
	"ExplainQueue": {byName, "queue.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.ExplainQueue(ctx, name)
		return err
	}},
	"ListFailures": {byName, "task.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.ListFailures(ctx, name, queue.FailureQuery{})
		return err
	}},
	"QueueHistory": {byName, "queue.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.QueueHistory(ctx, name, queue.HistoryQuery{})
		return err
	}},
	"CreateTicker": {byFilter, "ticker.manage task.create", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.CreateTicker(ctx, queue.TickerMeta{Name: "new", Queue: &name})
		return err
	}},
	"RegisterTicker": {byFilter, "ticker.manage task.create", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.RegisterTicker(ctx, queue.TickerMeta{Name: "new", Queue: &name})
		return err
	}},
	"GetTicker": {byID, "ticker.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.GetTicker(ctx, "t"+name)
		return err
	}},
	"ListTickers": {byList, "ticker.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.ListTickers(ctx, queue.Page{})
		return err
	}},
	"UpdateTicker": {byID, "ticker.manage task.create", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.UpdateTicker(ctx, "t"+name, queue.TickerMeta{Timezone: new("UTC")})
		return err
	}},
	"DeleteTicker": {byID, "ticker.manage", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.DeleteTicker(ctx, "t"+name)
		return err
	}},
	"PreviewTicker": {byID, "ticker.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.PreviewTicker(ctx, "t"+name, 1)
		return err
	}},
	"UpcomingTicks": {byList, "ticker.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.UpcomingTicks(ctx, queue.UpcomingQuery{})
		return err
	}},
	"RunTicker": {byID, "ticker.run task.create", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.RunTicker(ctx, "t"+name)
		return err
	}},
	"ListTicks": {byID, "ticker.read", func(ctx context.Context, s queue.Service, name string, _ int64) error {
		_, err := s.ListTicks(ctx, "t"+name, 1)
		return err
	}},
	"RunTickerLoop": {byWhole, "ticker.listen", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		err := s.RunTickerLoop(ctx, nil)
		if errors.Is(err, queue.ErrCanceled) {
			return nil
		}
		return err
	}},
	"ListEvents": {byList, "event.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.ListEvents(ctx, queue.EventFilter{}, 1)
		return err
	}},
	"SubscribeEvents": {byList, "event.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		err := s.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return nil })
		if errors.Is(err, queue.ErrCanceled) {
			return nil
		}
		return err
	}},
	"LastEvent": {byList, "event.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.(queue.FeedEnd).LastEvent(ctx)
		return err
	}},
	"ListWorkers": {byWhole, "worker.read", func(ctx context.Context, s queue.Service, _ string, _ int64) error {
		_, err := s.ListWorkers(ctx)
		return err
	}},
}

// callBulk calls a bulk operation with one id and returns the error of that id.
func callBulk(do func(queue.Service, context.Context, queue.Selection) (queue.Bulk, error)) func(context.Context, queue.Service, string, int64) error {
	return func(ctx context.Context, s queue.Service, _ string, id int64) error {
		b, err := do(s, ctx, queue.Selection{IDs: []int64{id}})
		if err == nil {
			err = b.Errs[id]
		}
		return err
	}
}

// TestGuardHasARowForEachOperation: an operation that is added to Service needs a row above, and a rule in the guard.
func TestGuardHasARowForEachOperation(t *testing.T) {
	service := reflect.TypeFor[queue.Service]()
	for method := range service.Methods() {
		name := method.Name
		if _, ok := guarded[name]; !ok && name != "Namespace" && name != "In" {
			t.Errorf("%s has no row in the table of this test", name)
		}
	}
	for _, op := range queue.ServiceOps() {
		if method := op.Operation().Method; guarded[method].call == nil {
			t.Errorf("%s has no row in the table of this test", method)
		}
	}
}

// needs reports by the plain implementation whether grants give all the actions of a row.
func needs(rows map[queue.Action][]string, grants []string, actions, namespace, name string) bool {
	for all := range strings.FieldsSeq(actions) {
		one := false
		for action := range strings.SplitSeq(all, "|") {
			one = one || decidePlainly(rows, grants, queue.Action(action), namespace, name)
		}
		if !one {
			return false
		}
	}
	return true
}

// wantKind is the plain implementation of the guard.
func wantKind(rows map[queue.Action][]string, grants []string, f form, actions, namespace, name string) queue.Kind {
	everywhere := needs(rows, grants, actions, namespace, "")
	there := needs(rows, grants, actions, namespace, name)
	somewhere := everywhere || needs(rows, grants, actions, namespace, "mail") || needs(rows, grants, actions, namespace, "bills")
	switch {
	case f == byList && somewhere, f == byWhole && everywhere, f == byFilter && there, f == byName && there, f == byID && there:
		return ""
	case f == byID && somewhere:
		return queue.KindNotFound
	}
	return queue.KindDenied
}

// TestGuardDecides compares the guard with the plain implementation: each operation; each role, and none, in each form of
// grant; own and other namespace; own and other queue, and none named; ids of own, other and unknown tasks. A refused call reaches nothing that changes.
func TestGuardDecides(t *testing.T) {
	rows := readMatrix()
	sets := [][]string{{}}
	for _, role := range access.Roles() {
		forms := []string{"%s@own", "%s@own/mail", "%s@own/mai*", "%s@other", "%s@other/mail", "%s@*", "%s@*/mail"}
		if role == access.RoleSystem || role == access.RoleMetrics {
			forms = []string{"%s@*"}
		}
		for _, form := range forms {
			sets = append(sets, []string{fmt.Sprintf(form, role)})
		}
	}

	cells := 0
	for _, grants := range sets {
		ctx := as(t, "id", grants...)
		for method, row := range guarded {
			names := map[string]int64{"mail": 1, "bills": 2}
			switch {
			case row.form == byFilter:
				names[""] = 0
			case row.form == byID:
				names["nowhere"] = 99
			}
			for _, namespace := range []string{"own", "other"} {
				for name, id := range names {
					fake := newFakeService()
					guard, err := access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}}).In(namespace)
					if err != nil {
						t.Fatal(err)
					}
					err = row.call(ctx, guard, name, id)
					want := wantKind(rows, grants, row.form, row.actions, namespace, name)
					switch {
					case method == "ListNamespaces":
						// It lists the namespaces with a grant, so the right in any of them is enough.
						want = queue.KindDenied
						if slices.ContainsFunc([]string{"own", "other"}, func(n string) bool {
							return needs(rows, grants, row.actions, n, "") || needs(rows, grants, row.actions, n, "mail")
						}) {
							want = ""
						}
					case want == "" && name == "nowhere":
						want = queue.KindNotFound
					}
					cells++
					if got := queue.KindOf(err); got != want {
						t.Errorf("%s %s in %s/%s: %q (%v), want %q", grants, method, namespace, name, got, err, want)
					}
					decidedBelow := method == "GetTask" || name == "nowhere" // the task is read first, or is nowhere to be found
					if want != "" && len(*fake.reached) > 0 && !decidedBelow {
						t.Errorf("%s %s in %s/%s: refused, but %v was called", grants, method, namespace, name, *fake.reached)
					}
				}
			}
		}
	}
	t.Logf("%d cells", cells)
}

// destinations has the settings of queues, groups and tickers that name a queue into which tasks go. Each other setting that is a
// text is in settingsWithoutQueue.
var destinations = map[string]func(meta *queue.QueueMeta, target string){
	"QueueMeta.DeadLetter": func(meta *queue.QueueMeta, target string) { meta.DeadLetter = &target },
}

// settingsWithoutQueue are the texts of settings that name no queue, and TickerMeta.Queue, which has rows of its own above.
var settingsWithoutQueue = []string{
	"QueueMeta.Name", "QueueMeta.Backoff", "QueueMeta.Order", "QueueMeta.GroupOnFailure", "QueueMeta.NonRetryable",
	"TickerMeta.Name", "TickerMeta.Queue", "TickerMeta.Timezone", "TickerMeta.Cron", "TickerMeta.Misfire", "TickerMeta.Overlap",
}

// TestEachDestinationHasARow: a setting that is a text may name a queue, and then needs a row in destinations.
func TestEachDestinationHasARow(t *testing.T) {
	for _, meta := range []reflect.Type{reflect.TypeFor[queue.QueueMeta](), reflect.TypeFor[queue.GroupMeta](), reflect.TypeFor[queue.TickerMeta]()} {
		for _, field := range reflect.VisibleFields(meta) {
			kind := field.Type
			for kind.Kind() == reflect.Pointer || kind.Kind() == reflect.Slice {
				kind = kind.Elem()
			}
			name := meta.Name() + "." + field.Name
			if kind.Kind() == reflect.String && destinations[name] == nil && !slices.Contains(settingsWithoutQueue, name) {
				t.Errorf("%s is a text and has no row in the tables of this test", name)
			}
		}
	}
}

// TestGuardDecidesAboutDestinations compares the guard with the plain implementation for each setting with a destination: the right
// to manage the queue that has the setting, and to create tasks in the destination. Both queues are own, other or unknown ones, and a
// setting that is taken away needs the first right alone.
func TestGuardDecidesAboutDestinations(t *testing.T) {
	rows := readMatrix()
	calls := map[string]func(ctx context.Context, s queue.Service, name string, meta queue.QueueMeta) error{
		"CreateQueue": func(ctx context.Context, s queue.Service, name string, meta queue.QueueMeta) error {
			meta.Name = name
			_, err := s.CreateQueue(ctx, meta)
			return err
		},
		"RegisterQueue": func(ctx context.Context, s queue.Service, name string, meta queue.QueueMeta) error {
			meta.Name = name
			_, err := s.RegisterQueue(ctx, meta)
			return err
		},
		"UpdateQueue": func(ctx context.Context, s queue.Service, name string, meta queue.QueueMeta) error {
			_, err := s.UpdateQueue(ctx, name, meta)
			return err
		},
		"UpdateQueue with a pause": func(ctx context.Context, s queue.Service, name string, meta queue.QueueMeta) error {
			meta.Paused = new(true)
			_, err := s.UpdateQueue(ctx, name, meta)
			return err
		},
	}

	var sets [][]string
	for _, role := range access.Roles() {
		forms := []string{"%s@own", "%s@own/mail", "%s@own/mai*", "%s@other", "%s@*/bills"}
		if role == access.RoleSystem || role == access.RoleMetrics {
			forms = []string{"%s@*"}
		}
		for _, form := range forms {
			grants := fmt.Sprintf(form, role)
			sets = append(sets, []string{grants}, []string{grants, "producer@own/bills"}, []string{grants, "admin@other"})
		}
	}
	cells := 0
	for setting, set := range destinations {
		for method, call := range calls {
			for _, grants := range sets {
				for _, name := range []string{"mail", "bills", "nowhere"} {
					for _, target := range []string{"mail", "bills", "nowhere", ""} {
						var meta queue.QueueMeta
						set(&meta, target)
						fake := newFakeService()
						err := call(as(t, "id", grants...), access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}}), name, meta)
						allowed := needs(rows, grants, "queue.manage", "own", name) && (target == "" || needs(rows, grants, "task.create", "own", target))
						cells++
						if allowed != (err == nil) || !allowed && (queue.KindOf(err) != queue.KindDenied || len(*fake.reached) > 0) {
							t.Errorf("%s: %s of %s with %s %q: %v, reached %v", grants, method, name, setting, target, err, *fake.reached)
						}
					}
				}
			}
		}
	}
	t.Logf("%d cells", cells)
}

// batches has each operation that takes several names or ids, and returns the errors of the items and that of the call.
var batches = map[string]func(ctx context.Context, s queue.Service, names []string, ids []int64) (map[int64]error, error){
	"CreateTasks": func(ctx context.Context, s queue.Service, names []string, _ []int64) (map[int64]error, error) {
		tasks := make([]queue.NewTask, len(names))
		for i, name := range names {
			tasks[i].Queue = name
		}
		_, err := s.CreateTasks(ctx, tasks)
		return nil, err
	},
	"RetainTasks": func(ctx context.Context, s queue.Service, names []string, _ []int64) (map[int64]error, error) {
		_, err := s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: names})
		return nil, err
	},
	"HeartbeatTasks": func(ctx context.Context, s queue.Service, _ []string, ids []int64) (map[int64]error, error) {
		beats := make([]queue.Heartbeat, len(ids))
		for i, id := range ids {
			beats[i].ID = id
		}
		answers, err := s.HeartbeatTasks(ctx, beats)
		errs := map[int64]error{}
		for i, a := range answers {
			errs[ids[i]] = a.Err
		}
		return errs, err
	},
	"ReleaseTasks": func(ctx context.Context, s queue.Service, _ []string, ids []int64) (map[int64]error, error) {
		releases := make([]queue.Release, len(ids))
		for i, id := range ids {
			releases[i].ID = id
		}
		answers, err := s.ReleaseTasks(ctx, releases)
		errs := map[int64]error{}
		for i, a := range answers {
			errs[ids[i]] = a.Err
		}
		return errs, err
	},
	"CancelTasks": selectIDs(queue.Service.CancelTasks),
	"RetryTasks":  selectIDs(queue.Service.RetryTasks),
	"DeleteTasks": selectIDs(queue.Service.DeleteTasks),
}

func selectIDs(do func(queue.Service, context.Context, queue.Selection) (queue.Bulk, error)) func(context.Context, queue.Service, []string, []int64) (map[int64]error, error) {
	return func(ctx context.Context, s queue.Service, _ []string, ids []int64) (map[int64]error, error) {
		b, err := do(s, ctx, queue.Selection{IDs: ids})
		return b.Errs, err
	}
}

// TestGuardDecidesAboutMixedItems compares the guard with the plain implementation for calls with items of own, other and
// unknown queues: by names all or nothing, by ids each for itself.
func TestGuardDecidesAboutMixedItems(t *testing.T) {
	rows := readMatrix()
	names, ids := []string{"mail", "bills"}, []int64{1, 2, 99}
	for _, op := range queue.ServiceOps() {
		if o := op.Operation(); o.Cost == queue.CostBatch && o.Effect != queue.EffectNone && batches[o.Method] == nil {
			t.Errorf("%s takes several items and has no row in the table of this test", o.Method)
		}
	}
	for method, call := range batches {
		for _, role := range access.Roles() {
			for _, form := range []string{"%s@own", "%s@own/mail", "%s@other", "%s@*/bills"} {
				if role == access.RoleSystem || role == access.RoleMetrics {
					form = "%s@*"
				}
				grants := []string{fmt.Sprintf(form, role)}
				row := guarded[method]
				fake := newFakeService()
				errs, err := call(as(t, "id", grants...), access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}}), names, ids)
				everywhere := needs(rows, grants, row.actions, "own", "mail") && needs(rows, grants, row.actions, "own", "bills")
				somewhere := needs(rows, grants, row.actions, "own", "mail") || needs(rows, grants, row.actions, "own", "bills")

				if row.form != byID {
					if (err == nil) != everywhere || err != nil && (queue.KindOf(err) != queue.KindDenied || len(*fake.reached) > 0) {
						t.Errorf("%s %s of both queues: %v, reached %v", grants, method, err, *fake.reached)
					}
					continue
				}
				if !somewhere {
					if queue.KindOf(err) != queue.KindDenied || len(*fake.reached) > 0 {
						t.Errorf("%s %s of ids: %v, reached %v", grants, method, err, *fake.reached)
					}
					continue
				}
				for id, name := range map[int64]string{1: "mail", 2: "bills", 99: ""} {
					want := queue.KindNotFound
					if name != "" && needs(rows, grants, row.actions, "own", name) {
						want = ""
					}
					if got := queue.KindOf(errs[id]); err != nil || got != want {
						t.Errorf("%s %s of id %d: %q (%v, %v), want %q", grants, method, id, got, errs[id], err, want)
					}
				}
			}
		}
	}
}

// TestGuardRefusesWithoutPrincipal: no operation works without a principal.
func TestGuardRefusesWithoutPrincipal(t *testing.T) {
	for method, row := range guarded {
		fake := newFakeService()
		err := row.call(t.Context(), access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}}), "mail", 1)
		if !errors.Is(err, queue.ErrUnauthenticated) || len(*fake.reached) > 0 {
			t.Errorf("%s: %v, reached %v; want KindUnauthenticated and no call", method, err, *fake.reached)
		}
	}
}

// TestGuardIsOutermost: neither an optional interface nor another namespace leads behind the guard.
func TestGuardIsOutermost(t *testing.T) {
	guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})
	if _, ok := queue.ServiceAs[fakeService](guard); ok {
		t.Error("the service behind the guard can be found")
	}

	viewer := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "viewer@own")))
	other, err := guard.In("other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.GetTask(viewer, 1); !errors.Is(err, queue.ErrDenied) {
		t.Errorf("a task of another namespace: %v", err)
	}
	if names, err := guard.ListNamespaces(viewer); err != nil || !slices.Equal(names, []string{"own"}) {
		t.Errorf("the namespaces are %v, %v; want own", names, err)
	}
}

// TestGuardOfMixedBatches: a batch of creates with one foreign element creates nothing; of ids, the foreign ones do not exist.
func TestGuardOfMixedBatches(t *testing.T) {
	ctx := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "admin@own/mail")))
	fake := newFakeService()
	guard := access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}})

	_, err := guard.CreateTasks(ctx, []queue.NewTask{{Queue: "Mail"}, {Queue: "bills"}})
	var e *queue.Error
	if !errors.As(err, &e) || e.Kind != queue.KindDenied || e.Field != "tasks[1].queue" || len(*fake.reached) > 0 {
		t.Errorf("a create with one foreign task: %v, reached %v", err, *fake.reached)
	}
	_, err = guard.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Queues: []string{"mail", "bills"}})
	if !errors.As(err, &e) || e.Kind != queue.KindDenied || e.Field != "queues[1]" || len(*fake.reached) > 0 {
		t.Errorf("a retain with one foreign queue: %v, reached %v", err, *fake.reached)
	}

	beats, err := guard.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: 2}, {ID: 1}, {ID: 99}})
	if err != nil || len(beats) != 3 || !errors.Is(beats[0].Err, queue.ErrNotFound) || beats[1].Err != nil || !errors.Is(beats[2].Err, queue.ErrNotFound) {
		t.Errorf("mixed heartbeats: %v, %v", beats, err)
	}
	released, err := guard.ReleaseTasks(ctx, []queue.Release{{ID: 1}, {ID: 2}})
	if err != nil || len(released) != 2 || released[0].Err != nil || !errors.Is(released[1].Err, queue.ErrNotFound) {
		t.Errorf("mixed releases: %v, %v", released, err)
	}
	if want := []string{"HeartbeatTasks 1", "ReleaseTasks 1"}; !slices.Equal(*fake.reached, want) {
		t.Errorf("reached %v, want %v", *fake.reached, want)
	}

	b, err := guard.DeleteTasks(ctx, queue.Selection{IDs: []int64{1, 2, 99}})
	if err != nil || b.Moved != 1 || !errors.Is(b.Errs[2], queue.ErrNotFound) || !errors.Is(b.Errs[99], queue.ErrNotFound) {
		t.Errorf("a delete of mixed ids: %+v, %v", b, err)
	}
	if foreign, unknown := b.Errs[2].Error(), b.Errs[99].Error(); strings.Replace(foreign, "2", "99", 1) != unknown {
		t.Errorf("a foreign task answers %q, an unknown one %q", foreign, unknown)
	}
}

// TestGuardOfFilters: a bulk operation by filter needs the queue of the filter.
func TestGuardOfFilters(t *testing.T) {
	ctx := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "operator@own/mail")))
	for name, want := range map[string]queue.Kind{"mail": "", "MAIL": "", "bills": queue.KindDenied, "": queue.KindDenied, "!": queue.KindInvalid} {
		fake := newFakeService()
		guard := access.Guard(fake, access.Guarding{Queues: taskQueuesFake{}})
		_, err := guard.DeleteTasks(ctx, queue.Selection{Filter: &queue.TaskFilter{Queue: name}})
		if queue.KindOf(err) != want || want != "" && len(*fake.reached) > 0 {
			t.Errorf("a delete by the queue %q: %v, want %q", name, err, want)
		}
	}
}

// TestGuardPauses: an operator may pause, but not change anything beside it.
func TestGuardPauses(t *testing.T) {
	ctx := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "operator@own/mail")))
	guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})
	for _, c := range []struct {
		queue string
		meta  queue.QueueMeta
		want  queue.Kind
	}{
		{"mail", queue.QueueMeta{Paused: new(true)}, ""},
		{"mail", queue.QueueMeta{Paused: new(false), IfVersion: 3}, ""},
		{"mail", queue.QueueMeta{Paused: new(true), Retries: new(1)}, queue.KindDenied},
		{"mail", queue.QueueMeta{Retries: new(1)}, queue.KindDenied},
		{"mail", queue.QueueMeta{}, queue.KindDenied},
		{"bills", queue.QueueMeta{Paused: new(true)}, queue.KindDenied},
	} {
		if _, err := guard.UpdateQueue(ctx, c.queue, c.meta); queue.KindOf(err) != c.want {
			t.Errorf("%s %+v: %v, want %q", c.queue, c.meta, err, c.want)
		}
	}
	for _, c := range []struct {
		ticker string
		meta   queue.TickerMeta
		want   queue.Kind
	}{
		{"tmail", queue.TickerMeta{Paused: new(true)}, ""},
		{"tmail", queue.TickerMeta{Paused: new(true), Payload: content()}, queue.KindDenied},
		{"tbills", queue.TickerMeta{Paused: new(true)}, queue.KindNotFound},
		{"tnone", queue.TickerMeta{Paused: new(true)}, queue.KindNotFound},
	} {
		if _, err := guard.UpdateTicker(ctx, c.ticker, c.meta); queue.KindOf(err) != c.want {
			t.Errorf("%s %+v: %v, want %q", c.ticker, c.meta, err, c.want)
		}
	}

	for _, c := range []struct {
		queue string
		meta  queue.GroupMeta
		want  queue.Kind
	}{
		{"mail", queue.GroupMeta{PausedUntil: new(time.Now())}, ""},
		{"mail", queue.GroupMeta{PausedUntil: new(time.Now()), Weight: new(2)}, queue.KindDenied},
		{"mail", queue.GroupMeta{Weight: new(2)}, queue.KindDenied},
		{"mail", queue.GroupMeta{}, queue.KindDenied},
		{"bills", queue.GroupMeta{PausedUntil: new(time.Now())}, queue.KindDenied},
	} {
		if _, err := guard.UpdateGroup(ctx, c.queue, "g", c.meta); queue.KindOf(err) != c.want {
			t.Errorf("group of %s %+v: %v, want %q", c.queue, c.meta, err, c.want)
		}
	}

	// A ticker cannot be moved into a foreign queue.
	admin := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "admin@own/mail")))
	for name, want := range map[string]queue.Kind{"mail": "", "bills": queue.KindDenied, "": queue.KindDenied} {
		if _, err := guard.UpdateTicker(admin, "tmail", queue.TickerMeta{Queue: &name}); queue.KindOf(err) != want {
			t.Errorf("a ticker moved to %q: %v, want %q", name, err, want)
		}
	}
}

// TestObserverSeesNoContent: no operation shows an observer a byte of the content.
func TestObserverSeesNoContent(t *testing.T) {
	guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})
	for grant, sees := range map[string]bool{"observer@own": false, "observer@own/mail": false, "viewer@own": true} {
		ctx := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, grant)))
		task, err1 := guard.GetTask(ctx, 1)
		tasks, err2 := guard.ListTasks(ctx, queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "mail"}})
		ticker, err3 := guard.GetTicker(ctx, "tmail")
		tickers, err4 := guard.ListTickers(ctx, queue.Page{})
		ticks, err5 := guard.ListTicks(ctx, "tmail", 1)
		events, err6 := guard.ListEvents(ctx, queue.EventFilter{}, 10)
		if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
			t.Fatal(err)
		}

		for name, answer := range map[string]any{"task": task, "tasks": tasks, "ticker": ticker, "tickers": tickers, "ticks": ticks, "events": events} {
			text, err := json.Marshal(answer)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(text), secret); got != sees && name != "events" {
				t.Errorf("%s sees the content of %s: %v, want %v", grant, name, got, sees)
			}
		}
	}
}

// TestGuardOfLists: a principal of some queues sees their rows only, and neither counts nor cursors of others.
func TestGuardOfLists(t *testing.T) {
	ctx := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "viewer@own/mail")))
	guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})

	queues, err := guard.ListQueues(ctx, queue.Page{Limit: 1})
	if err != nil || len(queues.Queues) != 1 || queues.Queues[0].Name != "mail" || queues.Count != 1 || queues.Next != "" {
		t.Errorf("queues: %+v, %v", queues, err)
	}
	tickers, err := guard.ListTickers(ctx, queue.Page{})
	if err != nil || len(tickers.Tickers) != 1 || tickers.Tickers[0].Name != "tmail" || tickers.Count != 1 {
		t.Errorf("tickers: %+v, %v", tickers, err)
	}
	statuses, err := guard.ListQueueStatuses(ctx)
	if err != nil || len(statuses) != 1 || statuses[0].Queue != "mail" {
		t.Errorf("statuses: %+v, %v", statuses, err)
	}
	events, err := guard.ListEvents(ctx, queue.EventFilter{}, 10)
	if err != nil || len(events.Events) != 1 || events.Events[0].Queue != "mail" {
		t.Errorf("events: %+v, %v", events, err)
	}
	// A page of a foreign queue is empty, but its cursor would count the events there.
	if _, err := guard.ListEvents(ctx, queue.EventFilter{Queue: "bills"}, 1); queue.KindOf(err) != queue.KindDenied {
		t.Errorf("events of a foreign queue: %v", err)
	}
	if err := guard.SubscribeEvents(ctx, queue.EventFilter{Queue: "bills"}, func(queue.Event) error { return nil }); queue.KindOf(err) != queue.KindDenied {
		t.Errorf("a stream of events of a foreign queue: %v", err)
	}

	both := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "viewer@own/mail", "viewer@own/bill*")))
	first, err := guard.ListQueues(both, queue.Page{Limit: 1})
	if err != nil || len(first.Queues) != 1 || first.Queues[0].Name != "bills" || first.Next == "" || first.Count != 2 {
		t.Fatalf("the first page is %+v, %v", first, err)
	}
	second, err := guard.ListQueues(both, queue.Page{Limit: 1, Cursor: first.Next})
	if err != nil || len(second.Queues) != 1 || second.Queues[0].Name != "mail" || second.Next != "" {
		t.Errorf("the second page is %+v, %v", second, err)
	}
}

// TestRevocationEndsStreams: a stream, a waiting retain and an await end within ConfirmInterval of a revocation.
func TestRevocationEndsStreams(t *testing.T) {
	calls := map[string]func(context.Context, queue.Service) error{
		"SubscribeEvents": func(ctx context.Context, s queue.Service) error {
			return s.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return nil })
		},
		"RunTickerLoop": func(ctx context.Context, s queue.Service) error { return s.RunTickerLoop(ctx, nil) },
		"RetainTasks": func(ctx context.Context, s queue.Service) error {
			_, err := s.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Wait: time.Hour})
			return err
		},
		"AwaitTask": func(ctx context.Context, s queue.Service) error {
			_, err := s.AwaitTask(ctx, 1, time.Hour)
			return err
		},
	}
	for name, call := range calls {
		synctest.Test(t, func(t *testing.T) {
			var revoked time.Time
			guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}, Confirm: func(context.Context, *access.Principal) error {
				if !revoked.IsZero() && !time.Now().Before(revoked) {
					return &queue.Error{Kind: queue.KindUnauthenticated, Msg: "the token is revoked"}
				}
				return nil
			}})
			start := time.Now()
			revoked = start.Add(25 * time.Second)
			err := call(access.With(t.Context(), access.Local()), guard)
			if d := time.Since(revoked); !errors.Is(err, queue.ErrUnauthenticated) || d < 0 || d > access.ConfirmInterval {
				t.Errorf("%s ends with %v, %s after the revocation", name, err, d)
			}
		})
	}
}

// TestGuardAllocatesNothing: the decision for a principal of a whole namespace costs no allocation, with an audit too.
func TestGuardAllocatesNothing(t *testing.T) {
	guard := access.Guard(idleService{}, access.Guarding{Queues: taskQueuesFake{}, Audit: access.NewAuditRecorder(access.AuditSettings{})})
	ctx := access.With(t.Context(), access.NewPrincipal("id", "name", access.KindToken, mustGrants(t, "admin@own")))
	for name, call := range map[string]func(){
		"CreateTask":     func() { _, _ = guard.CreateTask(ctx, "mail", queue.TaskMeta{}) },
		"RetainTasks":    func() { _, _ = guard.RetainTasks(ctx, queue.RetainRequest{}) },
		"HeartbeatTasks": func() { _, _ = guard.HeartbeatTasks(ctx, nil) },
		"ReleaseTasks":   func() { _, _ = guard.ReleaseTasks(ctx, nil) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// idleService answers the hot operations at once.
type idleService struct{ queue.Service }

func (idleService) Namespace() string { return "own" }

func (idleService) CreateTask(context.Context, string, queue.TaskMeta) (*queue.Task, error) {
	return nil, nil
}

func (idleService) RetainTasks(context.Context, queue.RetainRequest) ([]*queue.Task, error) {
	return nil, nil
}

func (idleService) HeartbeatTasks(context.Context, []queue.Heartbeat) ([]queue.Beat, error) {
	return nil, nil
}

func (idleService) ReleaseTasks(context.Context, []queue.Release) ([]queue.Released, error) {
	return nil, nil
}

func BenchmarkGuard(b *testing.B) {
	grant, _ := access.ParseGrant("admin@own")
	guard := access.Guard(idleService{}, access.Guarding{Audit: access.NewAuditRecorder(access.AuditSettings{})})
	ctx := access.With(context.Background(), access.NewPrincipal("id", "name", access.KindToken, []access.Grant{grant}))
	b.Run("CreateTask", func(b *testing.B) {
		for b.Loop() {
			_, _ = guard.CreateTask(ctx, "mail", queue.TaskMeta{})
		}
	})
	b.Run("ReleaseTasks", func(b *testing.B) {
		for b.Loop() {
			_, _ = guard.ReleaseTasks(ctx, nil)
		}
	})
}

// TestGuardKeepsTextsOfPayloads: a filter by a text of payloads would show parts of them, so it needs the right to read them.
func TestGuardKeepsTextsOfPayloads(t *testing.T) {
	filter := queue.TaskFilter{Queue: "mail", Text: "x"}
	for _, c := range []struct {
		grants []string
		want   queue.Kind
	}{
		{[]string{"observer@own"}, queue.KindDenied},
		{[]string{"observer@own", "operator@own/bills"}, queue.KindDenied},
		{[]string{"viewer@own/mail"}, ""},
		{[]string{"operator@own"}, ""},
	} {
		guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})
		if _, err := guard.ListTasks(as(t, "id", c.grants...), queue.TaskQuery{TaskFilter: filter}); queue.KindOf(err) != c.want {
			t.Errorf("%v: a list: %v, want %q", c.grants, err, c.want)
		}
		_, err := guard.CancelTasks(as(t, "id", append(c.grants, "admin@other")...), queue.Selection{Filter: &filter})
		if slices.Contains(c.grants, "operator@own") != (err == nil) {
			t.Errorf("%v: a cancel: %v", c.grants, err)
		}
	}
}

// TestGuardHidesErrorsOfFailures: an observer sees the groups of failures without a byte of an error, and without the fingerprint by
// which it could confirm a guess of the text: the rules of fingerprints are public.
func TestGuardHidesErrorsOfFailures(t *testing.T) {
	guess := queue.FingerprintOf(content()).ID
	for grant, want := range map[string]bool{"observer@own": false, "viewer@own/mail": true, "operator@own": true} {
		guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})
		f, err := guard.ListFailures(as(t, "id", grant), "mail", queue.FailureQuery{})
		if err != nil || f.Examined != 1 || strings.Contains(fmt.Sprintf("%+v %s", f, f.Groups[0].Sample.Error), secret) != want {
			t.Errorf("%s: got %+v, %v", grant, f, err)
		}
		if strings.Contains(fmt.Sprintf("%+v", f), guess) != want {
			t.Errorf("%s: the guess of an error is confirmed %v, want %v: %+v", grant, !want, want, f)
		}
	}
}

// TestGuardHidesHolds: the explanation of a queue names tasks and workers only to principals that may read its tasks.
func TestGuardHidesHolds(t *testing.T) {
	for grant, want := range map[string]bool{
		"producer@own": false, "worker@own/mail": false, "observer@own": true, "operator@own/mail": true,
	} {
		guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})
		e, err := guard.ExplainQueue(as(t, "id", grant), "mail")
		if err != nil || (e.Reasons[0].Hold != nil) != want {
			t.Errorf("%s: got %+v, %v, want the hold %v", grant, e, err, want)
		}
	}
}

// TestGuardDecidesAboutSharedStats: the reading that viewers share shows each of them its queues alone, also behind the audit.
func TestGuardDecidesAboutSharedStats(t *testing.T) {
	log := &fakeLog{}
	audited, recorder, _ := openAudit(t, log)
	for _, guard := range []queue.Service{access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}}), audited} {
		feed, ok := queue.ServiceAs[queue.StatsFeed](guard)
		if !ok {
			t.Fatal("the guard shares no stats")
		}
		all, err := feed.SharedStats(as(t, "id", "observer@own"))
		if err != nil || len(all) != 2 {
			t.Errorf("the namespace: got %v, %v", all, err)
		}
		some, err := feed.SharedStats(as(t, "id", "producer@own/mail"))
		if err != nil || len(some) != 1 || some[0].Queue != "mail" {
			t.Errorf("one queue: got %v, %v", some, err)
		}
		if _, err := feed.SharedStats(as(t, "id", "observer@other")); queue.KindOf(err) != queue.KindDenied {
			t.Errorf("no grant: got %v", err)
		}
		if _, err := feed.SharedStats(t.Context()); queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("no principal: got %v", err)
		}
	}
	recorder.Close(t.Context())
	if entries := log.take(); len(entries) != 2 {
		t.Errorf("the audit has %+v", entries)
	}
}

// TestGuardShowsUpcomingTicksOfVisibleQueues: a principal with grants for one queue sees the fires of its tickers alone.
func TestGuardShowsUpcomingTicksOfVisibleQueues(t *testing.T) {
	guard := access.Guard(newFakeService(), access.Guarding{Queues: taskQueuesFake{}})
	u, err := guard.UpcomingTicks(as(t, "id", "observer@own/mail"), queue.UpcomingQuery{Limit: 3})
	if err != nil || len(u.Ticks) != 3 || !u.More {
		t.Fatalf("got %+v, %v", u, err)
	}
	for _, tick := range u.Ticks {
		if tick.Ticker != "tmail" {
			t.Errorf("got a fire of %s", tick.Ticker)
		}
	}
}
