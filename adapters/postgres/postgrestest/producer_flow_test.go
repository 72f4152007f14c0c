package postgrestest_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// producerFlows are settings of queues that a create reads. The group "heavy" has a weight where the queue is fair.
var producerFlows = map[string]queue.FlowMeta{
	"narrow":  {GroupConcurrency: new(2)},
	"rated":   {RateLimit: new(100_000), GroupRateLimit: new(100_000)},
	"fair":    {Fair: new(true)},
	"ordered": {Order: new(queue.OrderFIFO), FIFOBatch: new(8)},
	"strict":  {Order: new(queue.OrderFIFO), Fair: new(true), GroupOnFailure: new(queue.GroupBlock)},
	"bounded": {GroupConcurrency: new(1), MaxWaiting: new(200)},
}

// producerRun is a test of creates as the producer's role.
type producerRun struct {
	*testing.T
	schema   string
	server   *postgres.Store // as a server
	producer *postgres.Store
	conn     *pgx.Conn // of producer
}

// TestProducerRoleAndFlow: the producer's role creates tasks with a group into queues of every flow, in Go and in SQL, and the server
// works all of them. It needs no right beyond those of TestRoleRights and of the functions below.
func TestProducerRoleAndFlow(t *testing.T) {
	needsDatabase(t)
	t.Parallel()
	for _, schema := range []string{postgres.DefaultSchema, "order"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			roles := setUpRoles(t, schema)
			r := &producerRun{
				T: t, schema: schema, server: open(t, roles.login(t, "app"), postgres.WithSchema(schema)),
				producer: open(t, roles.login(t, "producer"), postgres.WithSchema(schema)), conn: roles.connect(t, "producer"),
			}
			for _, name := range slices.Sorted(maps.Keys(producerFlows)) {
				t.Run(name, func(t *testing.T) {
					own := *r
					own.T = t
					own.makeQueue(name)
					ready := own.createInGo(name) + own.createInSQL(name)
					if producerFlows[name].MaxWaiting != nil {
						own.fillQueue(name)
						return
					}
					own.workAll(name, ready)
				})
			}
			r.checkFence()
			checkFunctions(t, roles)
		})
	}
}

func (r *producerRun) makeQueue(name string) {
	r.Helper()
	q, err := queue.NewQueue(queue.DefaultNamespace, queue.QueueMeta{Name: name, FlowMeta: producerFlows[name]})
	if err != nil {
		r.Fatal(err)
	}
	if _, err := r.server.CreateQueue(r.Context(), q); err != nil {
		r.Fatal(err)
	}
	if q.Fair {
		if _, err := r.server.UpdateGroup(r.Context(), queue.DefaultNamespace, name, "heavy", queue.GroupMeta{Weight: new(3)}); err != nil {
			r.Fatal(err)
		}
	}
}

// createInGo creates tasks in transactions of the producer's own program, and returns the number of those without a delay.
func (r *producerRun) createInGo(name string) (ready int) {
	r.Helper()
	many := make([]queue.NewTask, 100)
	for i := range many {
		many[i] = queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Group: fmt.Sprint("g", i%7)}}
	}
	one := func(meta queue.TaskMeta) []queue.NewTask {
		meta.Payload = queue.EmptyJSON
		return []queue.NewTask{{Queue: name, TaskMeta: meta}}
	}
	for what, tasks := range map[string][]queue.NewTask{
		"one":      one(queue.TaskMeta{Group: "g1"}),
		"many":     many,
		"weight":   one(queue.TaskMeta{Group: "heavy"}),
		"no group": one(queue.TaskMeta{}),
		"delayed":  one(queue.TaskMeta{Group: "g1", Delay: time.Hour}),
		"key":      one(queue.TaskMeta{Group: "g1", Key: "go"}),
	} {
		if err := r.createTx(false, tasks...); err != nil {
			r.Errorf("%s in Go: %v", what, err)
		}
		if what != "delayed" {
			ready += len(tasks)
		}
	}
	return ready
}

// createTx creates tasks in a transaction of the producer. limited minds max_waiting.
func (r *producerRun) createTx(limited bool, tasks ...queue.NewTask) error {
	r.Helper()
	tx, err := r.conn.Begin(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = tx.Rollback(r.Context()) }()
	x, err := r.producer.InTx(tx, queue.DefaultNamespace)
	if err != nil {
		r.Fatal(err)
	}
	if limited {
		x = x.WithMaxWaiting()
	}
	if _, err := x.CreateTasks(r.Context(), tasks); err != nil {
		return err
	}
	return tx.Commit(r.Context())
}

// createInSQL creates tasks by the functions, and returns the number of those without a delay.
func (r *producerRun) createInSQL(name string) (ready int) {
	r.Helper()
	for call, n := range map[string]int{
		`create_task($1, options => '{"group": "g1"}')`:                            1,
		`create_task($1, '{}'::json, options => '{"group": "heavy"}')`:             1,
		`create_task($1, '{}'::jsonb, key => 'sql', options => '{"group": "g2"}')`: 1,
		`create_task($1, delay => '1 hour', options => '{"group": "g1"}')`:         0,
		`create_task($1)`: 1,
		`create_tasks($1, array(select '1' from generate_series(1, 20)), options => '{"group": "g3"}')`:        20,
		`create_tasks($1, array['1', '2']::json[], options => '{"group": "heavy"}')`:                           2,
		`create_tasks($1, array['1', '2']::jsonb[], delay => interval '1 hour', options => '{"group": "g3"}')`: 0,
	} {
		if _, err := r.conn.Exec(r.Context(), "select "+pgx.Identifier{r.schema}.Sanitize()+"."+call, name); err != nil {
			r.Errorf("%s: %v", call, err)
		}
		ready += n
	}
	return ready
}

// workAll works the ready tasks of a queue as a server. In a FIFO queue the tasks of a group come in the order of their creates.
func (r *producerRun) workAll(name string, ready int) {
	r.Helper()
	groups, worked := map[string]int64{}, 0
	for {
		out, err := r.server.RetainTasks(r.Context(), queue.Retain{
			Namespace: queue.DefaultNamespace, Queues: []string{name}, Requests: []queue.RetainShare{{Worker: "w", Limit: 50}},
		})
		if err != nil {
			r.Fatal(err)
		}
		if len(out[0]) == 0 {
			break
		}
		var releases []queue.Release
		for _, task := range out[0] {
			if producerFlows[name].Order != nil && task.ID < groups[task.Group] {
				r.Errorf("task %d of %q comes after task %d", task.ID, task.Group, groups[task.Group])
			}
			groups[task.Group] = task.ID
			worked++
			releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
		}
		if _, err := r.server.ReleaseTasks(r.Context(), queue.DefaultNamespace, releases); err != nil {
			r.Fatal(err)
		}
	}
	if worked != ready || len(groups) != 9 {
		r.Errorf("the server works %d tasks of %d groups, want %d of 9", worked, len(groups), ready)
	}
}

// fillQueue creates tasks up to max_waiting. More are refused, except in a transaction in Go that does not ask for the limit.
func (r *producerRun) fillQueue(name string) {
	r.Helper()
	task := queue.NewTask{Queue: name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Group: "g1"}}
	in := pgx.Identifier{r.schema}.Sanitize()
	stats, err := r.server.QueueStats(r.Context(), queue.DefaultNamespace, name)
	if err != nil {
		r.Fatal(err)
	}
	waiting := int(stats[0].Counts[queue.StatusNew])
	free := *producerFlows[name].MaxWaiting - waiting
	fill := fmt.Sprintf(`select %s.create_tasks($1, array(select '1' from generate_series(1, %d)), options => '{"group": "g1"}')`, in, free-1)
	if _, err := r.conn.Exec(r.Context(), fill, name); err != nil {
		r.Fatalf("%d tasks wait, and %d more: %v", waiting, free-1, err)
	}
	if err := r.createTx(true, task); err != nil {
		r.Errorf("the last one: %v", err)
	}

	if err := r.createTx(true, task); queue.KindOf(err) != queue.KindExhausted {
		r.Errorf("one more in Go: %v", err)
	}
	_, err = r.conn.Exec(r.Context(), "select "+in+`.create_task($1, options => '{"group": "g1"}')`, name)
	if code, _ := sqlState(r.T, err); code != "PQ429" {
		r.Errorf("one more in SQL: %v", err)
	}
	if err := r.createTx(false, task); err != nil {
		r.Errorf("one more in a transaction without the limit: %v", err)
	}
}

// checkFence tries what a create does not need: to read the groups and their tasks, and to change settings and states of groups.
func (r *producerRun) checkFence() {
	r.Helper()
	for _, q := range []string{
		"select group_name from pgqueue.task", "select * from pgqueue.group_state", "select * from pgqueue.group_waiting", "select * from pgqueue.group_wake",
		"select grp from pgqueue.ready", "select grp from pgqueue.delayed", "select * from pgqueue.tasks", "select * from pgqueue.queue_stats",
		"insert into pgqueue.group_policy default values", "update pgqueue.group_policy set weight = 1000", "delete from pgqueue.group_policy",
		"insert into pgqueue.group_state default values", "insert into pgqueue.group_wake default values", "delete from pgqueue.group_waiting",
		"update pgqueue.queue set max_waiting = 0", "delete from pgqueue.queue_count", "delete from pgqueue.ready", "update pgqueue.ready set n = 0",
		"insert into pgqueue.done default values", "insert into pgqueue.lease default values", "select setval('pgqueue.turn', 1)",
	} {
		_, err := r.conn.Exec(r.Context(), inSchema(r.schema)(q))
		if code, _ := sqlState(r.T, err); code != "42501" {
			r.Errorf("%s: %v, want SQLSTATE 42501", q, err)
		}
	}
}

// checkFunctions compares the functions that the roles without a server's rights may execute, and the sequences that they may use.
func checkFunctions(t *testing.T, roles roleLogins) {
	t.Helper()
	const functions = `select coalesce(string_agg(distinct p.proname, ' ' order by p.proname), '') from pg_proc p
		where p.pronamespace = (select oid from pg_namespace where nspname = $1) and has_function_privilege($2, p.oid, 'execute')`
	const sequences = `select coalesce(string_agg(c.relname, ' ' order by c.relname), '') from pg_class c
		where c.relnamespace = (select oid from pg_namespace where nspname = $1)
		and case when c.relkind = 'S' then has_sequence_privilege($2, c.oid, $3) else false end` // an "and" has no order
	for role, want := range map[string]struct{ functions, used string }{
		"producer": {"api_version clock clock_inlined create_task create_tasks", "turn"},
		"readonly": {"api_version clock nanos stay", ""},
	} {
		name := roles.prefix + "_" + role
		if got := value[string](t, roles.admin, functions, roles.schema, name); got != want.functions {
			t.Errorf("%s may execute %s, want %s", role, got, want.functions)
		}
		for right, want := range map[string]string{"usage": want.used, "update": ""} {
			if got := value[string](t, roles.admin, sequences, roles.schema, name, right); got != want {
				t.Errorf("%s has the right %s on the sequences %q, want %q", role, right, got, want)
			}
		}
	}
}
