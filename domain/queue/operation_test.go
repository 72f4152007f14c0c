package queue_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// roles are the interfaces that the table of operations names.
var roles = map[string]reflect.Type{
	"Scoped":        reflect.TypeFor[queue.Scoped](),
	"Producer":      reflect.TypeFor[queue.Producer](),
	"Consumer":      reflect.TypeFor[queue.Consumer](),
	"Tasks":         reflect.TypeFor[queue.Tasks](),
	"Queues":        reflect.TypeFor[queue.Queues](),
	"Groups":        reflect.TypeFor[queue.Groups](),
	"QueueStatuses": reflect.TypeFor[queue.QueueStatuses](),
	"FailureGroups": reflect.TypeFor[queue.FailureGroups](),
	"Explanations":  reflect.TypeFor[queue.Explanations](),
	"Tickers":       reflect.TypeFor[queue.Tickers](),
	"TickerRuns":    reflect.TypeFor[queue.TickerRuns](),
	"Events":        reflect.TypeFor[queue.Events](),
	"Workers":       reflect.TypeFor[queue.Workers](),
	"FeedEnd":       reflect.TypeFor[queue.FeedEnd](),
	"TaskStore":     reflect.TypeFor[queue.TaskStore](),
	"TaskAdmin":     reflect.TypeFor[queue.TaskAdmin](),
	"TickerStore":   reflect.TypeFor[queue.TickerStore](),
	"Maintainer":    reflect.TypeFor[queue.Maintainer](),
	"Store":         reflect.TypeFor[queue.Store](),
	"Diagnoser":     reflect.TypeFor[queue.Diagnoser](),
	"CellLister":    reflect.TypeFor[queue.CellLister](),
	"Admin":         reflect.TypeFor[access.Admin](),
	"SessionAdmin":  reflect.TypeFor[access.SessionAdmin](),
	"Sessions":      reflect.TypeFor[access.Sessions](),
}

func TestOperations(t *testing.T) {
	byMethod := map[string]queue.Op{}

	t.Run("each operation has a method of its role, a summary and names of its own", func(t *testing.T) {
		labels := map[string]bool{}

		for _, op := range queue.Ops() {
			row := op.Operation()
			if row.Method == "" || row.Summary == "" {
				t.Errorf("operation %d: domain/queue/operation.go has no complete row: %+v", op, row)
				continue
			}

			byMethod[row.Method] = op
			if labels[op.Label()] {
				t.Errorf("%s: two operations have the label %s", row.Method, op.Label())
			}
			labels[op.Label()] = true

			if row.Role == "" {
				continue
			}
			role, ok := roles[row.Role]
			if !ok {
				t.Errorf("%s: this test does not know the role %s", row.Method, row.Role)
				continue
			}
			if _, ok := role.MethodByName(row.Method); !ok {
				t.Errorf("%s: the role %s has no such method", row.Method, row.Role)
			}
		}
	})

	t.Run("each method of Service and Store has a row", func(t *testing.T) {
		accessors := []string{"Namespace", "In"}

		for _, port := range []reflect.Type{
			reflect.TypeFor[queue.Service](), reflect.TypeFor[queue.FeedEnd](),
			reflect.TypeFor[queue.Store](), reflect.TypeFor[queue.Diagnoser](),
		} {
			for method := range port.Methods() {
				if _, ok := byMethod[method.Name]; !ok && !slices.Contains(accessors, method.Name) {
					t.Errorf("%s.%s: domain/queue/operation.go has no row", port.Name(), method.Name)
				}
			}
		}
	})

	t.Run("each operation of a Service has an action", func(t *testing.T) {
		for _, op := range queue.ServiceOps() {
			if op.Operation().Action == "" {
				t.Errorf("%s: domain/queue/operation.go names no action", op.Operation().Method)
			}
		}
	})

	t.Run("names follow from the method", func(t *testing.T) {
		if got := queue.OpCleanQueueWithin.String(); got != "clean queue within" {
			t.Errorf("got %q", got)
		}
		if got := queue.OpRunTickerLoop.Label(); got != "run_ticker_loop" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("a call without an answer is in doubt unless it reads or leases", func(t *testing.T) {
		for op, want := range map[queue.Op]queue.Kind{
			queue.OpGetTask:        queue.KindUnavailable,
			queue.OpRetainTasks:    queue.KindUnavailable,
			queue.OpHeartbeatTasks: queue.KindUnavailable,
			queue.OpCreateTask:     queue.KindIndeterminate,
			queue.OpReleaseTasks:   queue.KindIndeterminate,
			queue.OpRegisterQueue:  queue.KindIndeterminate,
		} {
			if got := op.Unanswered(); got != want {
				t.Errorf("%s: got %s, want %s", op, got, want)
			}
		}
	})
}
