package postgrestest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// plan is a node of the output of EXPLAIN.
type plan struct {
	Node     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Cond     string  `json:"Index Cond"`
	Loops    float64 `json:"Actual Loops"`
	Hit      int64   `json:"Shared Hit Blocks"`
	Read     int64   `json:"Shared Read Blocks"`
	Plans    []plan  `json:"Plans"`
}

// buffers is how many were touched.
func (p plan) buffers() int64 { return p.Hit + p.Read }

// walk calls do with p and all below it.
func (p plan) walk(do func(plan)) {
	do(p)
	for _, c := range p.Plans {
		c.walk(do)
	}
}

// partition returns the number of a partition's table or index.
var partition = regexp.MustCompile(`_p\d+`)

// scans are the tables that p reads from one end to the other.
func (p plan) scans() []string { return p.tables(func(n plan) bool { return n.Node == "Seq Scan" }) }

// walks are those that p reads along the whole of an index.
func (p plan) walks() []string {
	return p.tables(func(n plan) bool { return n.Index != "" && n.Cond == "" })
}

// tables are those of the nodes that match.
func (p plan) tables(match func(plan) bool) (tables []string) {
	p.walk(func(n plan) {
		if match(n) {
			tables = append(tables, partition.ReplaceAllString(n.Relation, ""))
		}
	})
	slices.Sort(tables)
	return slices.Compact(tables)
}

// indexes are those that p reads, of all partitions as one.
func (p plan) indexes() (names []string) {
	p.walk(func(n plan) {
		if n.Index != "" {
			names = append(names, partition.ReplaceAllString(n.Index, ""))
		}
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// planner explains the adapter's statements on one connection, with the one plan for all arguments that PostgreSQL keeps.
type planner struct {
	conn     *pgx.Conn
	text     map[string]string
	prepared map[string]int // parameters
}

func newPlanner(t *testing.T, conn *pgx.Conn) *planner {
	t.Helper()
	sql(t, conn, "set plan_cache_mode = force_generic_plan")
	return &planner{conn: conn, text: postgres.Statements(postgres.DefaultSchema), prepared: map[string]int{}}
}

// forget makes it plan anew.
func (p *planner) forget(t *testing.T) {
	t.Helper()
	if err := p.conn.DeallocateAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	clear(p.prepared)
}

// explain returns the plan of the statement with args, SQL text each; without any they are all null. With run the statement
// runs, within a transaction that is rolled back.
func (p *planner) explain(t *testing.T, name string, run bool, args ...string) plan {
	t.Helper()
	as := "plan " + name
	if _, ok := p.prepared[name]; !ok {
		d, err := p.conn.Prepare(t.Context(), as, p.text[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p.prepared[name] = len(d.ParamOIDs)
	}
	if n := p.prepared[name]; args == nil && n > 0 {
		args = slices.Repeat([]string{"null"}, n)
	}
	list := ""
	if len(args) > 0 {
		list = "(" + strings.Join(args, ", ") + ")"
	}
	how := "format json"
	if run {
		how = "analyze, buffers, timing off, " + how
	}
	var out []struct{ Plan plan }
	tx, err := p.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}()
	if others := map[bool]string{true: "off", false: "on"}[name == "list.hidden"]; others == "off" || strings.HasPrefix(name, "prune.") {
		if _, err := tx.Exec(t.Context(), p.text["tx.bitmaps"], others); err != nil {
			t.Fatal(err)
		}
	}
	var text []byte
	err = tx.QueryRow(t.Context(), fmt.Sprintf("explain (%s) execute %s%s", how, pgx.Identifier{as}.Sanitize(), list), pgx.QueryExecModeSimpleProtocol).Scan(&text)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out[0].Plan
}

// mayScan are the statements that read whole tables, each for its reason. No other statement does, but for tables that
// hold a row for each queue, partition or the like.
var mayScan = map[string]string{
	"recount":           "it is what the kept counts are held to, by tests and doctors",
	"prune.ticks":       "a minute apart",
	"prune.ticks.first": "the tickers, as prune.ticks; after a refused step",
	// By doctor --repair alone, with the schema locked.
	"repair.lease":   "a repair reads all of a queue",
	"repair.held":    "a repair reads all of a queue",
	"repair.empty":   "a repair reads all of a queue",
	"repair.ready":   "a repair reads all of a queue",
	"repair.delayed": "a repair reads all of a queue",
	"repair.due":     "a repair reads all of a queue",
	"repair.recount": "a repair reads all of a queue",
}

// mayWalk are those that walk a whole index, or would if they did not end at its first row.
var mayWalk = map[string]string{
	"queue.namespaces":   "the few namespaces of all tickers",
	"ticker.next":        "the first of an index of those with a time",
	"ticker.next.listen": "the same, and the first of those that are held",
	"contradict.step":    "the next rows of one key, as many as its argument says",
	"contradict.twice":   "the first lease rows, as many as its argument says",
}

// big are the tables that grow with the tasks.
var big = []string{"task", "ready", "delayed", "lease", "done", "state", "event", "task_error", "task_key", "tick", "ticker", "queue_history"}

// walkArgs are the arguments of a first step along the key of a table.
func walkArgs(table string) []string {
	return []string{"'" + table + "'", "-2147483648", "-32768", "0", "10", "'1970-01-01'", "0", "-9223372036854775808", "-1", "0", "1001"}
}

// load is how much lies in the tables.
type load struct{ waiting, delayed, done, events int }

// fill puts it there, in queue mail of namespace tests, by plain SQL: the same rows as the adapter writes. A queue beside
// it, "quiet", has 100 waiting tasks.
func (l load) fill(t *testing.T, s *postgres.Store, conn *pgx.Conn) (first int64) {
	t.Helper()
	const quiet = 100
	first = value[int64](t, conn, "select last_value from pgqueue.turn") + 1
	n := l.waiting + l.delayed + l.done + quiet
	sql(t, conn, fmt.Sprintf("select setval('pgqueue.turn', %d)", first+int64(n)))
	makeTask(t, s, "tests", "mail") // which makes the partitions
	mail := value[int](t, conn, "select id from pgqueue.queue where name = 'mail'")
	done, delayed, waiting := first+int64(l.done), first+int64(l.done+l.delayed), first+int64(l.done+l.delayed+l.waiting)
	sql(t, conn, "set synchronous_commit = off")
	// In pieces: a transaction that is open for long keeps the events of every database of the server.
	pieces := func(from, to int64, text string) {
		t.Helper()
		const piece = 200_000
		for ; from < to; from += piece {
			sql(t, conn, fmt.Sprintf(text, from, min(from+piece, to)-1))
		}
	}
	pieces(first, first+int64(n), fmt.Sprintf(`insert into pgqueue.task (id, created_at, delayed_at, queue_id, priority, retries, payload)
		select i, now() - interval '1 h', case when i between %[2]d and %[3]d - 1 then now() + interval '1 h' + (i %%%% 100000) * interval '1 s' end,
		       case when i < %[4]d then %[1]d else (select id from pgqueue.queue where name = 'quiet') end, 0, 3, '{"to": "ann"}'
		from generate_series(%%d::bigint, %%d) i`, mail, done, delayed, waiting))
	pieces(first, done, fmt.Sprintf(`insert into pgqueue.done (task_id, finished_at, started_at, token, queue_id, status, attempt, worker)
		select i, now() - interval '1 min', now() - interval '2 min', i * 256, %d, case when i %%%% 50 = 0 then 5 else 4 end, 1, 'w'
		from generate_series(%%d::bigint, %%d) i`, mail))
	pieces(done, delayed, `insert into pgqueue.delayed (due_at, task_id, queue_id, priority, attempt)
		select delayed_at, id, queue_id, priority, 0 from pgqueue.task where id between %d and %d`)
	pieces(delayed, waiting+quiet, `insert into pgqueue.ready (turn, task_id, queue_id, lane, attempt)
		select id, id, queue_id, priority * 65536, 0 from pgqueue.task where id between %d and %d order by id`)
	// A task each: what single creates leave behind.
	pieces(first, first+int64(l.events), fmt.Sprintf(`insert into pgqueue.event (at, queue_id, kind, was, "is", n, task_ids)
		select now(), %d, 10, 0, 0, 0, array[i] from generate_series(%%d::bigint, %%d) i`, mail))
	sql(t, conn,
		"insert into pgqueue.lane select id, 0 from pgqueue.queue on conflict do nothing",
		fmt.Sprintf(`insert into pgqueue.event (at, queue_id, kind, was, "is", n, delayed)
			select now(), %[1]d, 1, 0, 1, %[2]d, %[3]d
			union all select now(), %[1]d, 2, 1, 3, %[4]d, 0
			union all select now(), %[1]d, 4, 3, 4, %[4]d - %[6]d, 0
			union all select now(), %[1]d, 5, 3, 5, %[6]d, 0
			union all select now(), (select id from pgqueue.queue where name = 'quiet'), 1, 0, 1, %[5]d, 0`,
			mail, l.waiting+l.delayed+l.done, l.delayed, l.done, quiet,
			value[int](t, conn, fmt.Sprintf("select count(*) from generate_series(%d::bigint, %d) i where i %% 50 = 0", first, done-1))),
	)
	// As autovacuum does before long.
	sql(t, conn, "select brin_summarize_new_values(i.indexrelid) from pg_inherits h join pg_index i on i.indrelid = h.inhrelid "+
		"join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam and a.amname = 'brin' where h.inhparent = 'pgqueue.done'::regclass")
	// The counts have seen the load once no transaction on the server is older, those of other tests included.
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if _, err := s.Maintain(t.Context(), queue.ChoreFold); err != nil {
			t.Fatal(err)
		}
		if !value[bool](t, conn, "select exists (select 1 from pgqueue.event e, pgqueue.fold f where e.xid >= pg_snapshot_xmin(f.seen))") {
			return first
		}
		if time.Now().After(deadline) {
			t.Fatal("some transaction on the server stays open: the counts cannot see the load")
		}
	}
}

// TestPlans holds every statement to its index, and those of the hot path to what they touch, however large the tables
// and however wrong their statistics are.
func TestPlans(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	small := load{waiting: 20_000, delayed: 20_000, done: 10_000, events: 20_000}
	large := sized(t, load{waiting: 50_000, delayed: 200_000, done: 20_000, events: 50_000},
		load{waiting: 1_000_000, delayed: 10_000_000, done: 1_000_000, events: 1_000_000})
	for _, c := range []struct {
		name    string
		prepare []string // before the statements are planned
		load    load
		after   []string // once it is loaded; nil keeps the plans
	}{
		{"planned while the tables are new, met by a burst", nil, small, nil},
		{"planned while the tables are empty and analyzed so, met by a burst", []string{"vacuum analyze"}, small, nil},
		{"planned on large tables that were never analyzed", nil, large, []string{}},
		{"planned on large tables that are analyzed", nil, large, []string{"analyze"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := postgrestest.Open(t, postgres.WithPartitionSize(100_000))
			makeQueue(t, s, "tests", "mail")
			makeQueue(t, s, "tests", "quiet")
			makeTask(t, s, "tests", "mail", "quiet")
			pooled, err := s.Pool().Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer pooled.Release()
			conn := pooled.Conn()
			sql(t, conn, c.prepare...)
			p := newPlanner(t, conn)
			p.all(t)
			first := c.load.fill(t, s, conn)
			if c.after != nil {
				sql(t, conn, c.after...)
				p.forget(t)
				p.all(t)
			}
			p.hot(t, conn, c.load, first)
		})
	}
}

// utility are the statements that have no plan.
var utility = regexp.MustCompile(`(?m)\A(?:--.*\n|\s)*(?i:lock|set|notify|listen|vacuum|analyze)\b`)

// all plans every statement.
func (p *planner) all(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(p.text)) {
		if strings.Contains(p.text[name], "{") || name == "home.make" || strings.HasPrefix(name, "migrate.") || strings.HasPrefix(name, "diagnose.") ||
			mayScan[name] != "" || utility.MatchString(p.text[name]) {
			continue // of one partition; of the catalog; for its reason; without a plan
		}
		p.explain(t, name, false).spares(t, name)
	}
}

// spares checks that p, the plan of the statement so called, reads all of no big table.
func (p plan) spares(t *testing.T, name string) {
	t.Helper()
	tables := p.scans()
	if mayWalk[name] == "" {
		tables = append(tables, p.walks()...)
	}
	for _, table := range tables {
		if slices.Contains(big, table) {
			t.Errorf("%s reads all of %s", name, table)
		}
	}
}

// listParameters returns the named parameters of each list statement, in the order of their first use, which numbers them.
func listParameters(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../sql/list.sql")
	if err != nil {
		t.Fatal(err)
	}

	parameters := map[string][]string{}
	for statement := range strings.SplitSeq(string(text), "-- name: ") {
		name, _, _ := strings.Cut(statement, "\n")
		code := regexp.MustCompile(`(?m)--.*$`).ReplaceAllString(statement, "")
		for _, match := range regexp.MustCompile(`@(\w+)`).FindAllStringSubmatch(code, -1) {
			if !slices.Contains(parameters[name], match[1]) {
				parameters[name] = append(parameters[name], match[1])
			}
		}
	}
	return parameters
}

// hot runs the statements of the hot path.
func (p *planner) hot(t *testing.T, conn *pgx.Conn, l load, first int64) {
	t.Helper()
	const batch = 100
	mail := value[int](t, conn, "select id from pgqueue.queue where name = 'mail'")
	quiet := value[int](t, conn, "select id from pgqueue.queue where name = 'quiet'")
	// Parameters of EXECUTE may be no subqueries.
	series := func(from, step int64) string {
		var all []string
		for i := range int64(batch) {
			all = append(all, strconv.FormatInt((from+i)*step, 10))
		}
		return "'{" + strings.Join(all, ",") + "}'"
	}
	ids := func(from int64) string { return series(from, 1) }
	all := func(n int, what, kind string) string {
		return fmt.Sprintf("array_fill(%s, array[%d])::%s[]", what, n, kind)
	}
	queues := all(batch, strconv.Itoa(mail), "integer")
	waiting := first + int64(l.done+l.delayed)
	// Leases of one task each, of tasks that are finished already: nothing here asks.
	sql(t, conn, fmt.Sprintf(`insert into pgqueue.lease (token, queue_id, retained_at, expires_at, granted, worker, held, task_ids)
		select i * 256, %d, now(), now() + interval '1 h', 0, 'w', 1, array[i] from generate_series(%d::bigint, %d) i`, mail, first, first+9_999))
	defer sql(t, conn, "delete from pgqueue.lease")
	tokens := series(first, 256)
	places := value[string](t, conn, "select quote_literal(array_agg(l.ctid)::text) from (select ctid from pgqueue.lease order by token limit 100) l")
	pick := func(id int) []string {
		return []string{fmt.Sprintf("array[%d]", id), fmt.Sprintf("array[%d]", batch), "'{}'", "'{}'", "'{}'", "'{}'", strconv.Itoa(batch)}
	}
	parameters := listParameters(t)
	list := func(name, statuses, after string, limit int, worker string) []string {
		values := map[string]string{
			"queue_ids": fmt.Sprintf("array[%d]", mail), "from_id": "0", "before_id": "9223372036854775807", "created_after": after,
			"created_before": "null", "offset": "0", "limit": strconv.Itoa(limit), "statuses": "'{" + statuses + "}'", "worker": worker,
			"row_limit": "10000", "key": "'order-17'", "text": "'ann'", "finished_after": after, "finished_before": "null",
		}
		if parameters[name] == nil { // derived from the walk in the other direction
			name = strings.TrimSuffix(name, ".up")
		}

		var args []string
		for _, parameter := range parameters[name] {
			args = append(args, values[parameter])
		}
		return args
	}
	everything, page, count := "1,2,3,4,5,6,7", 101, 1001
	lower := strconv.FormatInt(value[int64](t, conn, "select min(lower) from pgqueue.part"), 10)
	for _, name := range []string{"part.walk", "part.count.step", "part.strip.keys"} { // of one partition
		p.text[name+" of one"] = strings.ReplaceAll(p.text[name], "{lower}", lower)
	}
	for _, c := range []struct {
		sentence string
		name     string
		args     []string
		index    string
		most     int64 // buffers
	}{
		{"a retain of 100", "retain.pick", pick(mail), "ready_pkey", 600},
		{"a retain of 100 reads their tasks where they lie together", "retain.range", []string{strconv.Itoa(mail), strconv.FormatInt(waiting, 10), strconv.FormatInt(waiting+batch-1, 10)}, "task_pkey", 150},
		{"a retain of 100 reads their tasks wherever they lie", "retain.tasks", []string{queues, ids(waiting)}, "task_pkey", 700},
		{"a retain of 100 reads what moved", "retain.states", []string{queues, ids(waiting)}, "state_pkey", 700},
		{"a release of 100 locks its leases", "lease.lock", []string{tokens, "'tests'"}, "lease_pkey", 1000},
		{"100 releases of one task read their tasks", "lease.facts.token", []string{tokens, ids(first)}, "task_pkey", 1500},
		{"a release of 100 reads their tasks", "lease.facts.small", []string{tokens, ids(first), all(batch, "31457", "integer")}, "task_pkey", 1500},
		{"a release of 100 reads their tasks where they lie together", "lease.facts.range", []string{strconv.FormatInt(first*256, 10), strconv.FormatInt(first, 10), strconv.FormatInt(first+batch-1, 10), "31457"}, "task_pkey", 500},
		{"a quiet release of 100 reads what a move needs", "lease.lives.token", []string{tokens, ids(first)}, "task_pkey", 1500},
		{"a rescue reads their tasks", "lease.lives", []string{queues, ids(first)}, "task_pkey", 1200},
		{"a release of 100 ends their leases", "lease.drop", []string{places}, "", 400},
		{"a heartbeat of 100", "lease.keep", []string{ids(first), "'{}'", places, all(batch, "1", "smallint"), all(batch, "1", "integer"), all(batch, "1", "integer"), all(batch, "1", "integer"), all(batch, "0", "integer"), all(batch, "now()", "timestamptz"), all(batch, "0", "bigint")}, "", 2500},
		{"a cancel of 100 that are held", "lease.cancel", []string{ids(first), tokens}, "lease_pkey", 3000},
		{"pauses of groups that are over", "group.pause.over", []string{"100"}, "group_policy_pause", 60},
		{"the next task past its ttl", "expire.next", []string{"'epoch'", "'epoch'", "'epoch'"}, "ready_dies", 120},
		{"the next lease to run out", "rescue.next", []string{"'epoch'"}, "lease_expires", 60},
		{"a promotion with nothing due", "promote", []string{"'epoch'", "'{}'", "'{}'", "2000"}, "delayed_pkey", 60},
		{"the next delayed task", "promote.next", []string{"'epoch'"}, "delayed_pkey", 60},
		{"an expiry with nothing to expire", "expire.ready", []string{"'epoch'", "'{}'", "'{}'", "2000"}, "ready_dies", 60},
		{"an expiry of delayed tasks with nothing to expire", "expire.delayed", []string{"'epoch'", "'{}'", "'{}'", "2000"}, "delayed_dies", 60},
		{"a look at 100 tasks", "task.now.any", []string{ids(waiting), "'tests'"}, "task_pkey", 6000},
		{"a look at 100 tasks of known queues", "task.now", []string{"3000000", queues, ids(waiting), all(batch, "1", "integer")}, "task_pkey", 3500},
		{"the counts", "counts", []string{"''", "''"}, "event_pkey", 200},
		{"the oldest ready task", "count.oldest", []string{fmt.Sprintf("array[%d, %d]", mail, quiet), "'{}'", "'{}'", "'{}'"}, "ready_pkey", 200},
		{"a page of 100 tasks, bounded in bytes", "task.page", []string{queues, ids(waiting), strconv.Itoa(queue.MaxPageBytes)}, "task_pkey", 3500},
		{"a page of all tasks, the oldest first", "list.any.up", list("list.any.up", everything, "null", page, ""), "task_pkey", 400},
		{"a page of waiting tasks, the oldest first", "list.all.up", list("list.all.up", "1", "null", page, ""), "task_pkey", 120_000},
		{"a page of released tasks, the oldest first", "list.released.up", list("list.released.up", "4", "null", page, ""), "done_pkey", 2000},
		{"a page of failed tasks, the oldest first", "list.unwell.up", list("list.unwell.up", "5", "null", page, ""), "done_queue_id_status_task_id_idx", 2000},
		{"a page of all tasks", "list.any", list("list.any", everything, "null", page, ""), "task_pkey", 400},
		{"a page of waiting tasks", "list.all", list("list.all", "1", "null", page, ""), "task_pkey", 6000},
		{"a page of tasks that wait for another attempt", "list.retry", list("list.retry", "2", "null", page, ""), "state_again", 100},
		{"a page of retained tasks", "list.retained", list("list.retained", "3", "null", page, ""), "lease_queue", 1200},
		{"a page of released tasks", "list.released", list("list.released", "4", "null", page, ""), "done_pkey", 2000},
		{"a page of failed tasks", "list.unwell", list("list.unwell", "5", "null", page, ""), "done_queue_id_status_task_id_idx", 2000},
		{"a page of a worker's tasks", "list.worker", list("list.worker", everything, "null", page, "'w'"), "done_pkey", 2000},
		{"a page of an unknown worker's tasks", "list.worker", list("list.worker", everything, "null", page, "'x'"), "done_pkey", 12_000},
		{"a count of a worker's tasks", "list.worker", list("list.worker", everything, "null", count, "'w'"), "done_pkey", 12_000},
		{"a count of tasks by time", "list.any", list("list.any", everything, "'epoch'", count, ""), "task_pkey", 3000},
		{"a count of waiting tasks by time", "list.all", list("list.all", "1", "'epoch'", count, ""), "task_pkey", 30_000},
		{"a count of released tasks by time", "list.released", list("list.released", "4", "'epoch'", count, ""), "done_pkey", 10_000},
		{"a count of failed tasks by time", "list.unwell", list("list.unwell", "5", "'epoch'", count, ""), "done_queue_id_status_task_id_idx", 10_000},
		{"the task of a key", "list.key", list("list.key", everything, "null", page, "null"), "task_key_pkey", 300},
		{"a page of tasks by their end", "list.finished", list("list.finished", "5", "'epoch'", page, "null"), "done_pkey", 12_000},
		{"a page of tasks by their end that has none", "list.finished", list("list.finished", "5", "'9999-01-01'", page, "null"), "done_pkey", 12_000},
		{"a step of a search for a text", "list.text", list("list.text", everything, "null", page, "null"), "task_pkey", 6000},
		{"the newest 100 failed tasks", "failure.list", []string{"200000", strconv.Itoa(mail), "9223372036854775807", "null", "null", "100"}, "done_queue_id_status_task_id_idx", 3000},
		{"the failed tasks of a time", "failure.list", []string{"1000", strconv.Itoa(mail), "9223372036854775807", "now()", "null", "100"}, "done_queue_id_status_task_id_idx", 3000},
		{"the facts of a queue", "why.facts", []string{"1000", strconv.Itoa(mail), "null", "1"}, "delayed_pkey", 3000},
		{"the ids of a time", "list.edge", []string{"now()", fmt.Sprintf("array[%d, %d]", mail, quiet)}, "task_pkey", 1000},
		{"tasks past retention that are counted still", "list.hidden", list("list.hidden", everything, "null", 100_000, ""), "done_finished_at_idx", 600},
		{"a page of events", "event.list", []string{"'9000000000:9000000000:'", "'1:1:'", "'tests'", "''", "'0'", "0", "'{}'", "100"}, "event_pkey", 1000},
		{"a prune with nothing past retention", "prune.done", []string{fmt.Sprintf("array[%d]", mail), "'epoch'", "now() - interval '7 d'", "0", "'{}'", "5000"}, "", 2000},
		{"an operator takes 100 finished tasks", "take.done", []string{queues, ids(first)}, "done_pkey", 3000},
		{"an operator takes 100 waiting tasks", "take.ready", []string{queues, all(batch, "0", "smallint"), ids(waiting)}, "ready_pkey", 3000},
		{"an operator takes 100 tasks that wait for their group", "take.waiting", []string{queues, ids(waiting), all(batch, "0", "integer"), ids(waiting), ids(waiting)}, "group_waiting_pkey", 3000},
		{"the first tasks that wait for 100 groups", "group.waiting", []string{ids(waiting), strconv.Itoa(mail), "10"}, "group_waiting_pkey", 3000},
		{"an operator deletes 100 tasks", "erase", []string{queues, ids(first)}, "task_pkey", 3000},
		{"a step of a clean", "prune.clean", []string{strconv.Itoa(mail), "100"}, "done_pkey", 1500},
		{"a look for contradictions in 10 ready rows", "contradict.step", walkArgs("ready"), "ready_pkey", 300},
		{"a look for contradictions in 10 delayed rows", "contradict.step", walkArgs("delayed"), "delayed_pkey", 300},
		{"a look for contradictions in rows of waiting groups", "contradict.step", walkArgs("group_waiting"), "group_waiting_pkey", 10},
		{"a look for contradictions in 10 lease rows", "contradict.step", walkArgs("lease"), "lease_pkey", 3000},
		{"a step of 100 tasks of a partition", "part.walk of one", []string{strconv.Itoa(mail), strconv.FormatInt(first-1, 10), "100"}, "done_pkey", 1000},
		{"a count of 100 finished rows of a partition", "part.count.step of one", []string{strconv.Itoa(mail), strconv.FormatInt(first-1, 10), "100"}, "done_pkey", 200},
		{"the keys of 100 tasks of a partition", "part.strip.keys of one", []string{strconv.Itoa(mail), strconv.FormatInt(first-1, 10), strconv.Itoa(mail), strconv.FormatInt(first+99, 10)}, "task_pkey", 1000},
		{"a tick with nothing due", "ticker.due", []string{"200", "8388608"}, "ticker_due", 60},
	} {
		got := p.explain(t, c.name, true, c.args...)
		if n := got.buffers(); n > c.most {
			t.Errorf("%s (%s) touches %d buffers, at most %d are needed: by %v", c.sentence, c.name, n, c.most, got.indexes())
		}
		if c.index != "" && !slices.Contains(got.indexes(), c.index) {
			t.Errorf("%s (%s) is not served by %s, but by %v", c.sentence, c.name, c.index, got.indexes())
		}
		got.spares(t, c.name)
		t.Logf("%s: %d buffers by %v", c.sentence, got.buffers(), got.indexes())
	}
	cost := func(id int, from int64) int64 {
		t.Helper()
		return p.explain(t, "retain.pick", true, pick(id)...).buffers() +
			p.explain(t, "retain.range", true, strconv.Itoa(id), strconv.FormatInt(from, 10), strconv.FormatInt(from+batch-1, 10)).buffers()
	}
	full, empty := cost(mail, waiting), cost(quiet, waiting+int64(l.waiting))
	t.Logf("a retain of 100 touches %d buffers in a queue of %d tasks, %d in one that has no others", full, l.waiting, empty)
	if 2*full > 3*empty {
		t.Errorf("a retain of 100 touches %d buffers in a queue of %d tasks, %d in one that has no others", full, l.waiting, empty)
	}
}
