package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// production is one create of a task, in a form that each way in can express, and its answer.
type production struct {
	name  string
	queue string // "" = mail
	meta  queue.TaskMeta
	want  queue.Kind // "" = a task
	same  string     // name of the production that has this task already
}

// manyHeaders returns n headers.
func manyHeaders(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprintf("h%d", i)] = "v"
	}
	return all
}

// longPayload returns a text of n bytes as JSON.
func longPayload(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }

// nestedPayload returns arrays within each other.
func nestedPayload(depth int) []byte {
	return []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
}

var (
	past        = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	future      = time.Date(2040, 1, 2, 3, 4, 5, 678901000, time.UTC)
	one         = []byte("1")
	productions = []production{
		{name: "an object", meta: queue.TaskMeta{Payload: []byte(`{"to":"a@b.c"}`)}},
		{name: "an array", meta: queue.TaskMeta{Payload: []byte(`[1,"2",null]`)}},
		{name: "null", meta: queue.TaskMeta{Payload: []byte("null")}},
		{name: "false", meta: queue.TaskMeta{Payload: []byte("false")}},
		{name: "a text with escapes, quotes and a NUL", meta: queue.TaskMeta{Payload: []byte(`"ö ' \" \\ \u0000 \ud83d\ude00 $1 $$"`)}},
		{name: "a number that no double holds", meta: queue.TaskMeta{Payload: []byte("12345678901234567890.123456789")}},
		{name: "a name twice", meta: queue.TaskMeta{Payload: []byte(`{"a":1,"a":2}`)}},
		{name: "the deepest payload", meta: queue.TaskMeta{Payload: nestedPayload(queue.MaxJSONDepth)}},
		{name: "a payload too deep", meta: queue.TaskMeta{Payload: nestedPayload(queue.MaxJSONDepth + 1)}, want: queue.KindInvalid},
		{name: "the largest payload", meta: queue.TaskMeta{Payload: longPayload(queue.DefaultMaxPayloadBytes)}},
		{name: "a payload too large", meta: queue.TaskMeta{Payload: longPayload(queue.DefaultMaxPayloadBytes + 1)}, want: queue.KindTooLarge},
		{name: "a lone surrogate", meta: queue.TaskMeta{Payload: []byte(`"\ud800"`)}, want: queue.KindInvalid},
		{name: "a key", meta: queue.TaskMeta{Payload: []byte(`{"a": 1}`), Key: "order-17"}},
		{name: "the key again", meta: queue.TaskMeta{Payload: []byte(`{"a": 1}`), Key: "order-17"}, same: "a key"},
		{name: "the key again, with other spaces", meta: queue.TaskMeta{Payload: []byte(`{ "a":1 }`), Key: "order-17"}, same: "a key"},
		{name: "the key with another payload", meta: queue.TaskMeta{Payload: []byte(`{"a":2}`), Key: "order-17"}, want: queue.KindKeyReused},
		{name: "the longest key", meta: queue.TaskMeta{Payload: one, Key: strings.Repeat("k", queue.MaxKeyBytes)}},
		{name: "a key too long", meta: queue.TaskMeta{Payload: one, Key: strings.Repeat("k", queue.MaxKeyBytes+1)}, want: queue.KindInvalid},
		{name: "the first priority", meta: queue.TaskMeta{Payload: one, Priority: -32768}},
		{name: "the last priority", meta: queue.TaskMeta{Payload: one, Priority: 32767}},
		{name: "a delay", meta: queue.TaskMeta{Payload: one, Delay: 90 * time.Minute}},
		{name: "the longest delay", meta: queue.TaskMeta{Payload: one, Delay: queue.MaxDuration}},
		{name: "a delay too long", meta: queue.TaskMeta{Payload: one, Delay: queue.MaxDuration + time.Second}, want: queue.KindInvalid},
		{name: "a negative delay", meta: queue.TaskMeta{Payload: one, Delay: -time.Second}, want: queue.KindInvalid},
		{name: "a time in the past", meta: queue.TaskMeta{Payload: one, DelayedAt: past}},
		{name: "a time in the future", meta: queue.TaskMeta{Payload: one, DelayedAt: future}},
		{name: "a delay and a time", meta: queue.TaskMeta{Payload: one, Delay: time.Minute, DelayedAt: future}, want: queue.KindInvalid},
		{name: "headers", meta: queue.TaskMeta{Payload: one, Headers: map[string]string{"Ünï": "ö ' \"", "empty": ""}}},
		{name: "the most headers", meta: queue.TaskMeta{Payload: one, Headers: manyHeaders(queue.MaxHeaders)}},
		{name: "a header too many", meta: queue.TaskMeta{Payload: one, Headers: manyHeaders(queue.MaxHeaders + 1)}, want: queue.KindInvalid},
		{name: "a group", meta: queue.TaskMeta{Payload: one, Group: "tenant ' \" ö"}},
		{name: "the longest group", meta: queue.TaskMeta{Payload: one, Group: strings.Repeat("g", queue.MaxGroupBytes)}},
		{name: "a group too long", meta: queue.TaskMeta{Payload: one, Group: strings.Repeat("g", queue.MaxGroupBytes+1)}, want: queue.KindInvalid},
		{name: "an unknown queue", queue: "none", meta: queue.TaskMeta{Payload: one}, want: queue.KindNotFound},
		{name: "a queue with a space", queue: "a b", meta: queue.TaskMeta{Payload: one}, want: queue.KindInvalid},
		{name: "a queue in capitals between spaces", queue: "\t MAIL ", meta: queue.TaskMeta{Payload: one}},
		{name: "a queue with a Kelvin sign", queue: "\u212aey", meta: queue.TaskMeta{Payload: one}, want: queue.KindInvalid},
		{name: "a queue behind a no-break space", queue: "\u00a0mail", meta: queue.TaskMeta{Payload: one}, want: queue.KindInvalid},
		{name: "a full queue", queue: "full", meta: queue.TaskMeta{Payload: one}, want: queue.KindExhausted},
		{name: "a payload that ends early", meta: queue.TaskMeta{Payload: []byte("{")}, want: queue.KindInvalid},
	}
)

// queueName returns the queue of a production.
func (p production) queueName() string {
	if p.queue == "" {
		return "mail"
	}
	return p.queue
}

// way creates the tasks of all productions, in a namespace of its own, and returns for each its id or the error.
type way func(t *testing.T, namespace string) []produced

type produced struct {
	id  int64
	err error
}

// TestProducers runs the same productions by each way in. A task must have each field as it was given, and a refusal the same kind.
func TestProducers(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.Empty(t)
	n := startNodeAt(t, dsn)
	for name, produce := range map[string]way{
		"go": produceInGo(dsn), "rest": produceByREST(n), "connect": produceByConnect(n), "cli": produceByCommand(n),
		"psql": produceByPsql(dsn), "trigger": produceByTrigger(dsn), "node": produceByNode(dsn),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := restclient.New(n.url, restclient.WithAttempts(1), restclient.WithNamespace(name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
				t.Fatal(err)
			}
			// A queue with one task has no place for another.
			if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: "full", FlowMeta: queue.FlowMeta{MaxWaiting: new(1)}}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.CreateTask(t.Context(), "full", queue.TaskMeta{Payload: one}); err != nil {
				t.Fatal(err)
			}
			all := produce(t, name)
			if len(all) != len(productions) {
				t.Fatalf("%d answers to %d productions", len(all), len(productions))
			}
			ids := map[string]int64{}
			tasks := 0
			for i, p := range productions {
				checkProduced(t, c, p, all[i], ids)
				if p.want == "" && p.same == "" {
					tasks++
				}
			}
			// Refused and rolled back calls have left nothing.
			stats, err := c.QueueStats(t.Context(), "mail")
			if err != nil || stats.Counts[queue.StatusNew] != int64(tasks) {
				t.Errorf("the queue has %v (%v), want %d tasks", stats.Counts, err, tasks)
			}
		})
	}
}

// checkProduced compares an answer with its production, and the task with what was given.
func checkProduced(t *testing.T, c queue.Service, p production, got produced, ids map[string]int64) {
	t.Helper()
	if p.want != "" {
		if kind := queue.KindOf(got.err); kind != p.want {
			t.Errorf("%s: got task %d and %v, want %s", p.name, got.id, got.err, p.want)
		}
		return
	}
	if got.err != nil {
		t.Errorf("%s: %v", p.name, got.err)
		return
	}
	ids[p.name] = got.id
	if p.same != "" {
		if got.id != ids[p.same] {
			t.Errorf("%s: got task %d, want %d", p.name, got.id, ids[p.same])
		}
		return
	}
	task, err := c.GetTask(t.Context(), got.id)
	if err != nil {
		t.Errorf("%s: %v", p.name, err)
		return
	}
	// The clients over REST add a key, by which they repeat a call.
	sameKey := task.Key == p.meta.Key || p.meta.Key == ""
	if string(compact(t, task.Payload)) != string(compact(t, p.meta.Payload)) || !sameKey || task.Priority != p.meta.Priority || task.Group != p.meta.Group ||
		!maps.Equal(task.Headers, p.meta.Headers) && len(p.meta.Headers) > 0 || task.Status != queue.StatusNew {
		t.Errorf("%s: the task is %.300s", p.name, fmt.Sprintf("%+v", task))
	}
	switch {
	case p.meta.Delay > 0:
		if late := task.DelayedAt.Sub(task.CreatedAt) - p.meta.Delay; late.Abs() > time.Minute {
			t.Errorf("%s: it is due at %v", p.name, task.DelayedAt)
		}
	case !task.DelayedAt.Equal(p.meta.DelayedAt) && p.meta.DelayedAt != past:
		t.Errorf("%s: it is due at %v, want %v", p.name, task.DelayedAt, p.meta.DelayedAt)
	}
}

func compact(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatalf("%.80s: %v", text, err)
	}
	return b.Bytes()
}

// produceThrough creates the tasks by a service.
func produceThrough(t *testing.T, svc queue.Service) (all []produced) {
	t.Helper()
	for _, p := range productions {
		task, err := svc.CreateTask(t.Context(), p.queueName(), p.meta)
		if err != nil {
			all = append(all, produced{err: err})
			continue
		}
		all = append(all, produced{id: task.ID})
	}
	return all
}

func produceInGo(dsn string) way {
	return func(t *testing.T, namespace string) []produced {
		s, err := postgres.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m, err := manager.New(s, manager.WithNamespace(namespace))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := m.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}()
		return produceThrough(t, m)
	}
}

func produceByREST(n *node) way {
	return func(t *testing.T, namespace string) []produced {
		c, err := restclient.New(n.url, restclient.WithAttempts(1), restclient.WithNamespace(namespace))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return produceThrough(t, c)
	}
}

func produceByConnect(n *node) way {
	return func(t *testing.T, namespace string) []produced {
		c, err := connectclient.New(strings.TrimSuffix(n.url, "/api"), connectclient.WithNamespace(namespace))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return produceThrough(t, c)
	}
}

// refusals are the forms in which a command reports each kind: its exit code and its message.
var refusals = []struct {
	exit    int
	message *regexp.Regexp
	kind    queue.Kind
}{
	{2, regexp.MustCompile(`payload: must have at most \d+ bytes, got`), queue.KindTooLarge},
	{2, regexp.MustCompile(`^pgqueue: .*: must (be|have|not) `), queue.KindInvalid},
	{3, regexp.MustCompile(`: no such queue; `), queue.KindNotFound},
	{4, regexp.MustCompile(`: key: .* belongs to a task with another payload; `), queue.KindKeyReused},
	{4, regexp.MustCompile(`: max_waiting: is reached`), queue.KindExhausted},
}

func produceByCommand(n *node) way {
	return func(t *testing.T, namespace string) (all []produced) {
		for _, p := range productions {
			args := []string{"create-task", "--url", n.url, "--namespace", namespace, "--payload", "-", "--jq", ".id", p.queueName()}
			if p.meta.Key != "" {
				args = append(args, "--key", p.meta.Key)
			}
			if p.meta.Priority != 0 {
				args = append(args, fmt.Sprintf("--priority=%d", p.meta.Priority))
			}
			if p.meta.Delay != 0 {
				args = append(args, "--delay="+p.meta.Delay.String())
			}
			if !p.meta.DelayedAt.IsZero() {
				args = append(args, "--delayed-at", p.meta.DelayedAt.Format(time.RFC3339Nano))
			}
			if p.meta.Group != "" {
				args = append(args, "--group", p.meta.Group)
			}
			for name, value := range p.meta.Headers {
				args = append(args, "--header", name+"="+value)
			}
			all = append(all, callCommand(t, p, args))
		}
		return all
	}
}

// callCommand runs a command that prints an id. The kind of a refusal is that of its exit code and its message.
func callCommand(t *testing.T, p production, args []string) produced {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs(t), "pgqueue"), args...)
	cmd.Stdin = bytes.NewReader(p.meta.Payload)
	out, err := cmd.Output()
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return parseID(string(out), err)
	}
	for _, r := range refusals {
		if r.exit == failed.ExitCode() && r.message.Match(failed.Stderr) {
			return produced{err: &queue.Error{Kind: r.kind, Msg: string(failed.Stderr)}}
		}
	}
	return produced{err: fmt.Errorf("%w: %s", err, failed.Stderr)}
}

func parseID(text string, err error) produced {
	if err != nil {
		return produced{err: err}
	}
	id, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return produced{id: id, err: err}
}

// kindOfState returns the kind of a refusal by SQL, as its page lists them. PostgreSQL refuses 22P02 and 22021 before the call.
func kindOfState(state, message string) error {
	kinds := map[string]queue.Kind{
		"PQ404": queue.KindNotFound, "PQ409": queue.KindKeyReused, "PQ410": queue.KindLeaseLost, "PQ413": queue.KindTooLarge, "PQ422": queue.KindInvalid,
		"PQ429": queue.KindExhausted,
	}
	return &queue.Error{Kind: kinds[state], Msg: state + " " + message}
}

// sqlText returns a text as a literal of SQL.
func sqlText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// callOf returns the call of a production in SQL.
func (p production) callOf(namespace string) string {
	call := "select pgqueue.create_task(" + sqlText(p.queueName()) + ", " + sqlText(string(p.meta.Payload)) + ", namespace => " + sqlText(namespace)
	if p.meta.Key != "" {
		call += ", key => " + sqlText(p.meta.Key)
	}
	if p.meta.Priority != 0 {
		call += fmt.Sprintf(", priority => %d", p.meta.Priority)
	}
	if p.meta.Delay != 0 {
		call += fmt.Sprintf(", delay => '%d s'", int64(p.meta.Delay.Seconds()))
	}
	if !p.meta.DelayedAt.IsZero() {
		call += ", delayed_at => " + sqlText(p.meta.DelayedAt.Format(time.RFC3339Nano))
	}
	if p.meta.Headers != nil {
		call += ", headers => " + sqlText(headersJSON(p.meta))
	}
	return call + ", options => " + sqlText(optionsJSON(p.meta)) + ")"
}

func optionsJSON(meta queue.TaskMeta) string {
	options := map[string]string{}
	if meta.Group != "" {
		options["group"] = meta.Group
	}
	text, _ := json.Marshal(options) // a map of texts has no error
	return string(text)
}

func headersJSON(meta queue.TaskMeta) string {
	text, _ := json.Marshal(meta.Headers) // a map of texts has no error
	return string(text)
}

var psqlError = regexp.MustCompile(`ERROR:\s+(\w{5}): (.*)`)

// runPsql runs statements and returns the last row, or the error of the SQLSTATE.
func runPsql(t *testing.T, dsn, statements string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose", "--dbname", dsn)
	cmd.Stdin = strings.NewReader(statements)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if found := psqlError.FindStringSubmatch(stderr.String()); found != nil {
		return "", kindOfState(found[1], found[2])
	}
	rows := strings.Fields(string(out))
	if err != nil || len(rows) == 0 {
		return "", fmt.Errorf("psql: %w: %s", err, stderr.String())
	}
	return rows[len(rows)-1], nil
}

// produceByPsql calls in a transaction that is rolled back, and again in one that commits.
func produceByPsql(dsn string) way {
	return func(t *testing.T, namespace string) (all []produced) {
		queuetest.FindTools(t, "psql")
		for _, p := range productions {
			call := p.callOf(namespace) + ";\n"
			all = append(all, parseID(runPsql(t, dsn, "begin;\n"+call+"rollback;\nbegin;\n"+call+"commit;\n")))
		}
		return all
	}
}

// produceByTrigger inserts a row for each production; the trigger creates its task and keeps the id in the row.
func produceByTrigger(dsn string) way {
	return func(t *testing.T, namespace string) (all []produced) {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
		if _, err := conn.Exec(t.Context(), `
			create table production (id bigint, namespace text, queue text, payload text, key text, delay interval, delayed_at timestamptz, priority integer, headers json,
				options jsonb);
			create function produce() returns trigger language plpgsql as $$
			begin
				new.id = pgqueue.create_task(new.queue, new.payload, key => new.key, delay => new.delay, delayed_at => new.delayed_at,
					priority => new.priority, headers => new.headers, namespace => new.namespace, options => new.options);
				return new;
			end $$;
			create trigger produce before insert on production for each row execute function produce()`); err != nil {
			t.Fatal(err)
		}
		for _, p := range productions {
			var got produced
			for _, end := range []string{"rollback", "commit"} {
				got = insertProduction(t, conn, namespace, p, end)
			}
			all = append(all, got)
		}
		return all
	}
}

// insertProduction inserts a row in a transaction with the given end.
func insertProduction(t *testing.T, conn *pgx.Conn, namespace string, p production, end string) (got produced) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }() // without effect after the commit
	var key, headers *string
	var delay *time.Duration
	var at *time.Time
	if p.meta.Key != "" {
		key = &p.meta.Key
	}
	if p.meta.Delay != 0 {
		delay = &p.meta.Delay
	}
	if !p.meta.DelayedAt.IsZero() {
		at = &p.meta.DelayedAt
	}
	if p.meta.Headers != nil {
		headers = new(headersJSON(p.meta))
	}
	err = tx.QueryRow(t.Context(), `insert into production (namespace, queue, payload, key, delay, delayed_at, priority, headers, options)
		values ($1, $2, $3, $4, $5, $6, $7, $8::text::json, $9::text::jsonb) returning id`,
		namespace, p.queueName(), string(p.meta.Payload), key, delay, at, p.meta.Priority, headers, optionsJSON(p.meta)).Scan(&got.id)
	if failed, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return produced{err: kindOfState(failed.SQLState(), failed.Error())}
	}
	if err != nil {
		t.Fatal(err)
	}
	if end == "commit" {
		got.err = tx.Commit(t.Context())
	}
	return got
}

// nodeTransaction is a transaction that the program of testdata/node-producer runs.
type nodeTransaction struct {
	Statements []nodeStatement `json:"statements"`
	End        string          `json:"end"`
}

type nodeStatement struct {
	Text   string `json:"text"`
	Values []any  `json:"values"`
}

type nodeAnswer struct{ Value, State, Message, Undone string }

// runNode runs transactions with Node's driver pg.
func runNode(t *testing.T, dsn string, transactions []nodeTransaction) (answers []nodeAnswer) {
	t.Helper()
	npm := findNpm(t)
	modules := nodeModules(t, npm, "node-producer")
	program, err := filepath.Abs("testdata/node-producer/producer.js")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copyInto(t, program, filepath.Join(dir, "producer.mjs"))
	linkModules(t, modules, dir)
	text, err := json.Marshal(transactions)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(run(t, dir, text, "node", "producer.mjs", dsn), &answers); err != nil {
		t.Fatal(err)
	}
	return answers
}

// produceByNode calls with parameters in a transaction that is rolled back, and again in one that commits.
func produceByNode(dsn string) way {
	return func(t *testing.T, namespace string) (all []produced) {
		var transactions []nodeTransaction
		for _, p := range productions {
			transactions = append(transactions, nodeTransaction{[]nodeStatement{p.parametersOf(namespace)}, "rollback"})
		}
		for _, answer := range runNode(t, dsn, transactions) {
			if answer.State != "" {
				all = append(all, produced{err: kindOfState(answer.State, answer.Message)})
				continue
			}
			all = append(all, parseID(answer.Value, nil))
		}
		return all
	}
}

// parametersOf returns the call of a production with parameters; those without a value are null.
func (p production) parametersOf(namespace string) nodeStatement {
	var key, delay, at, headers any
	if p.meta.Key != "" {
		key = p.meta.Key
	}
	if p.meta.Delay != 0 {
		delay = fmt.Sprintf("%d s", int64(p.meta.Delay.Seconds()))
	}
	if !p.meta.DelayedAt.IsZero() {
		at = p.meta.DelayedAt.Format(time.RFC3339Nano)
	}
	if p.meta.Headers != nil {
		headers = headersJSON(p.meta)
	}
	return nodeStatement{
		"select pgqueue.create_task($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		[]any{p.queueName(), string(p.meta.Payload), key, delay, at, p.meta.Priority, headers, namespace, optionsJSON(p.meta)},
	}
}

// TestCompletions: the effects of a task and its completion commit together, by psql and by Node's driver. A stale token undoes the
// effects too, and the task stays with its worker.
func TestCompletions(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.Empty(t)
	n := startNodeAt(t, dsn)
	c := connect(t, n)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "create table effect (task bigint primary key)"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}

	// Each way writes the effect, completes the task and ends the transaction as asked.
	for name, complete := range map[string]func(t *testing.T, id, token int64, end string) error{
		"psql": func(t *testing.T, id, token int64, end string) error {
			queuetest.FindTools(t, "psql")
			_, err := runPsql(t, dsn, fmt.Sprintf("begin;\ninsert into effect values (%d);\nselect pgqueue.complete_task(%d, %d, '{\"sent\":true}');\nselect 1;\n%s;\n", id, id, token, end))
			return err
		},
		"node": func(t *testing.T, id, token int64, end string) error {
			statements := []nodeStatement{{"insert into effect values ($1)", []any{id}}, {"select pgqueue.complete_task($1, $2, $3)", []any{id, token, `{"sent":true}`}}}
			if end == "rollback" {
				statements = append(statements, nodeStatement{"select 1/0", []any{}})
			}
			answer := runNode(t, dsn, []nodeTransaction{{statements, "commit"}})[0]
			if answer.State != "" && answer.State != "22012" {
				return kindOfState(answer.State, answer.Message)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.CreateTask(t.Context(), "mail", queue.TaskMeta{}); err != nil {
				t.Fatal(err)
			}
			held, err := c.RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Limit: 1})
			if err != nil || len(held) != 1 {
				t.Fatal(held, err)
			}
			id, token := held[0].ID, held[0].Lease.Token
			check := func(what string, status queue.Status, effects int) {
				t.Helper()
				task, err := c.GetTask(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				var rows int
				if err := conn.QueryRow(t.Context(), "select count(*) from effect where task = $1", id).Scan(&rows); err != nil {
					t.Fatal(err)
				}
				if task.Status != status || rows != effects {
					t.Errorf("after %s the task is %s with %d effects, want %s with %d", what, task.Status, rows, status, effects)
				}
			}

			if err := complete(t, id, token, "rollback"); err != nil {
				t.Fatal(err)
			}
			check("a rollback", queue.StatusRetained, 0)
			if err := complete(t, id, token+256, "commit"); queue.KindOf(err) != queue.KindLeaseLost {
				t.Errorf("a stale token is answered by %v", err)
			}
			check("a stale token", queue.StatusRetained, 0)
			if err := complete(t, id, token, "commit"); err != nil {
				t.Fatal(err)
			}
			check("a commit", queue.StatusReleased, 1)
			if task, err := c.GetTask(t.Context(), id); err != nil || string(task.Result) != `{"sent":true}` {
				t.Errorf("the result is %s (%v)", task.Result, err)
			}
		})
	}
}
