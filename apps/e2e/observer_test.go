package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// readingCommand is a command line that reads by an operation.
type readingCommand struct {
	op queue.Op
	// line has DONE, RETRY, FAILED, RETAINED and WAITING in place of the ids of tasks, and CURSOR in place of the begin of the feed.
	line string
	// shows reports whether a viewer reads contents in its JSON: payloads, results, headers, progress and errors.
	shows bool
}

// readingCommands has a command of each operation that reads, or that an observer may call. TestEveryReadIsACommandOfTheObserver
// fails for an operation without one.
var readingCommands = []readingCommand{
	{queue.OpListNamespaces, "namespaces", false},

	{queue.OpGetTask, "task DONE", true},
	{queue.OpGetTask, "task RETRY", true},
	{queue.OpGetTask, "task FAILED", true},
	{queue.OpGetTask, "task RETAINED", true},
	{queue.OpListTasks, "tasks", true},
	{queue.OpListTasks, "export", true},
	{queue.OpListTasks, "export --queue mail", true},
	{queue.OpAwaitTask, "await-task DONE --wait 1ms", true},

	{queue.OpGetQueue, "queue mail", false},
	{queue.OpListQueues, "queues", false},
	{queue.OpListGroups, "groups mail", false},
	{queue.OpQueueStats, "stats mail", false},
	{queue.OpQueueStats, "scale mail", false},
	{queue.OpQueueHistory, "history mail", false},
	{queue.OpListQueueStatuses, "stats", false},
	{queue.OpExplainTask, "why FAILED", false},
	{queue.OpExplainTask, "why WAITING", false},
	{queue.OpExplainQueue, "why --queue mail", false},
	{queue.OpListFailures, "failures mail", true},

	{queue.OpGetTicker, "ticker marked", true},
	{queue.OpListTickers, "tickers", true},
	{queue.OpPreviewTicker, "preview-ticker marked", false},
	{queue.OpUpcomingTicks, "upcoming-ticks", false},
	{queue.OpListTicks, "ticks marked", true},

	{queue.OpListEvents, "events --follow=false", false},
	{queue.OpSubscribeEvents, "events --after CURSOR --count 10", false},
	{queue.OpLastEvent, "", false}, // it begins a stream of events
	{queue.OpListWorkers, "workers", false},

	{queue.OpListTokens, "tokens", false},
	{queue.OpWhoAmI, "whoami", false},
	{queue.OpCan, "can task.payload", false},
	{queue.OpListAudit, "audit", false},
	{queue.OpCreateCode, "dashboard --no-open", false},
	{queue.OpOpenSession, "", false}, // the dashboard alone does it
	{queue.OpListSessions, "sessions", false},
	{queue.OpSignOut, "", false}, // the dashboard alone does it

	{queue.OpPing, "", false},      // a probe
	{queue.OpDiagnose, "", false},  // doctor reads the database itself
	{queue.OpListCells, "", false}, // cells reads the database itself
}

// otherCommands are the commands that read nothing of an observer's, and why.
var otherCommands = map[string][]string{
	"they change something": {
		"apply", "bench", "cancel-task", "clean-queue", "complete-task", "create-cell", "create-queue", "create-task", "create-ticker", "create-token",
		"delete-queue", "delete-task", "delete-ticker", "end-session", "group", "handback-task", "heartbeat-task", "import", "migrate", "move-home",
		"next-ticker", "pause-queue", "place", "resume-queue", "retain-task", "retry-task", "revoke-token", "rotate-token", "run-ticker", "snooze-task",
		"unblock-group", "update-queue", "update-ticker", "work",
	},
	"they ask no server":             {"cells", "completion", "config", "demo", "doctor", "generate-token", "help", "run", "version"},
	"apps/cli has a terminal for it": {"top"},
}

// TestEveryReadIsACommandOfTheObserver: each operation that reads, and each command of the program, has a place in the lists of
// TestObserverReadsNoContentByPrograms.
func TestEveryReadIsACommandOfTheObserver(t *testing.T) {
	rows := map[queue.Op]bool{}
	commands := slices.Concat(slices.Collect(maps.Values(otherCommands))...)
	for _, c := range readingCommands {
		rows[c.op] = true
		name, _, _ := strings.Cut(c.line, " ")
		commands = append(commands, name)
	}
	observer := access.RoleObserver.Actions()
	for _, op := range queue.Ops() {
		row := op.Operation()
		if needed := row.Action != "" && (op.Reads() || slices.Contains(observer, row.Action)); rows[op] != needed {
			t.Errorf("%s must have a row in readingCommands: %v, got one: %v", row.Method, needed, rows[op])
		}
	}

	all := regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`).FindAllStringSubmatch(runCommand(t, "--help"), -1)
	if len(all) < 60 {
		t.Fatalf("the help names %d commands", len(all))
	}
	for _, command := range all {
		if !slices.Contains(commands, command[1]) {
			t.Errorf("the command %s must be in readingCommands or otherCommands, got it in none", command[1])
		}
	}
}

// observed is a server with marked tasks and tickers, and a token of each role in place of its name.
type observed struct {
	*node
	tokens map[string]string
	tasks  markedTasks
	cursor string
	mark   string
}

// read runs the commands that read, as the owner of a token, and returns the lines of those with the mark in their JSON.
func (o *observed) read(t *testing.T, as string) (seen map[string]bool) {
	t.Helper()
	isFull := os.Getenv("PGQUEUE_TEST_FULL") != ""
	ids := strings.NewReplacer("DONE", fmt.Sprint(o.tasks.done), "RETRY", fmt.Sprint(o.tasks.retry), "FAILED", fmt.Sprint(o.tasks.failed),
		"RETAINED", fmt.Sprint(o.tasks.retained), "WAITING", fmt.Sprint(o.tasks.waiting), "CURSOR", o.cursor)
	seen = map[string]bool{}
	for i, way := range ways {
		for j, form := range []string{"json", "wide"} {
			for k, c := range readingCommands {
				line := strings.Fields(ids.Replace(c.line))
				// Without PGQUEUE_TEST_FULL each command prints JSON, over one way in turn.
				if len(line) == 0 || !isFull && (j != 0 || k%2 != i) || line[0] == "export" && form != "json" {
					continue
				}
				wrote := outputs{}
				env := []string{"PGQUEUE_URL=" + o.url, "PGQUEUE_AUTH_TOKEN=" + o.tokens[as], "PGQUEUE_PROTOCOL=" + way}
				_, code := wrote.runAs(t, true, env, append(append([]string{"pgqueue"}, line...), "-o", form)...)
				if code == program.ExitUsage {
					t.Errorf("pgqueue %s must be a command line, got %v", c.line, wrote)
				}
				for _, text := range wrote {
					if findForm(text, o.mark) == "" {
						continue
					}
					seen[c.line] = seen[c.line] || form == "json"
					if as == "observer" || !c.shows {
						t.Errorf("%s reads the mark by pgqueue %s -o %s over %s: %.300s", as, strings.Join(line, " "), form, way, text)
					}
				}
			}
		}
	}
	return seen
}

// TestObserverReadsNoContentByPrograms runs each command that reads, as an observer and over a session of one, beside tasks and
// tickers with marked contents. No output has a byte of the mark. A viewer sees the mark, so the commands show contents.
func TestObserverReadsNoContentByPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	o := observed{
		tokens: map[string]string{"": access.NewSecret().Reveal(), "observer": access.NewSecret().Reveal(), "viewer": access.NewSecret().Reveal()},
		mark:   "MARKED0CONTENT0THAT0IS0SECRET",
	}
	o.node = startNodeAt(t, postgrestest.URL(t), "--admin-token-file",
		writeSecret(t, o.tokens[""], o.tokens["observer"]+" observer@default", o.tokens["viewer"]+" viewer@default"))
	svc := dialWith(t, o.node, "rest", o.tokens[""])
	o.tasks = markTasks(t, svc, o.mark)
	first, err := svc.ListEvents(t.Context(), queue.EventFilter{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	o.cursor = first.Next

	o.read(t, "observer")
	seen := o.read(t, "viewer")
	for _, c := range readingCommands {
		if seen[c.line] != c.shows {
			t.Errorf("a viewer sees the mark by pgqueue %s: %v, want %v", c.line, seen[c.line], c.shows)
		}
	}

	// An export of an observer is refused as a whole: its file would look complete.
	file := filepath.Join(t.TempDir(), "tasks.ndjson")
	wrote := outputs{}
	if _, code := wrote.runAs(t, true, []string{"PGQUEUE_URL=" + o.url, "PGQUEUE_AUTH_TOKEN=" + o.tokens["observer"]}, "pgqueue", "export", file); code == 0 {
		t.Error("an observer exports tasks")
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 0 {
		t.Errorf("a refused export leaves %v: %v", left, err)
	}

	o.readBySession(t, "observer")
	o.readBySession(t, "viewer")
}

// readBySession reads each route that reads over a session, as the dashboard does. A viewer sees the mark.
func (o *observed) readBySession(t *testing.T, as string) {
	t.Helper()
	code, err := dialWith(t, o.node, "rest", o.tokens[as]).(access.SessionAdmin).CreateCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	base := strings.TrimSuffix(o.url, "/api")
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	cookie := &http.Cookie{Name: "pgqueue-" + u.Port(), Value: openSession(t, u.Host, code.Secret.Reveal())}
	shows := map[queue.Op]bool{}
	for _, c := range readingCommands {
		shows[c.op] = shows[c.op] || c.shows
	}

	for _, r := range restapi.Routes() {
		if r.Op == 0 || !r.Op.Reads() {
			continue
		}
		reads, seen := false, false
		for _, path := range o.pathsOf(r) {
			status, text := o.ask(t, cookie, base+"/api"+path)
			reads = reads || status == http.StatusOK
			seen = seen || findForm(text, o.mark) != ""
			if status == http.StatusUnauthorized || as == "observer" && findForm(text, o.mark) != "" {
				t.Errorf("the session of an %s gets %d at %s: %.300s", as, status, path, text)
			}
		}
		if may := slices.Contains(access.Role(as).Actions(), r.Op.Operation().Action); reads != may {
			t.Errorf("the session of an %s reads %s: %v, want %v", as, r.ID, reads, may)
		}
		if as == "viewer" && seen != shows[r.Op] {
			t.Errorf("the session of a viewer sees the mark at %s: %v, want %v", r.ID, seen, shows[r.Op])
		}
	}
}

// pathsOf returns the paths of a route for each task, and for the queue and the ticker.
func (o *observed) pathsOf(r restapi.Route) []string {
	switch {
	case strings.HasPrefix(r.Path, "/ticker/{"):
		return []string{r.URL("marked")}
	case r == restapi.Can:
		return []string{r.Path + "?action=task.payload"}
	case !strings.Contains(r.Path, "{id}"):
		return []string{r.URL("mail")}
	}
	var paths []string
	for _, id := range []int64{o.tasks.done, o.tasks.retry, o.tasks.failed, o.tasks.retained, o.tasks.waiting} {
		paths = append(paths, r.URL(fmt.Sprint(id)))
	}
	return paths
}

// ask sends a GET of the dashboard and returns the answer.
func (o *observed) ask(t *testing.T, cookie *http.Cookie, target string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(cookie)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Accept", "application/json") // no stream of events, which would not end
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// markedTasks are the ids of tasks in different states.
type markedTasks struct{ done, retry, failed, retained, waiting int64 }

// markTasks makes a ticker with a marked payload, and tasks of mail that end in different ways, with the mark in each part of
// their contents. The last one waits for its group.
func markTasks(t *testing.T, svc queue.Service, mark string) markedTasks {
	t.Helper()
	content := json.RawMessage(`{"x":"` + mark + `"}`)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail", RetryDelay: new(time.Hour), FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}})
	must(err)
	_, err = svc.CreateTicker(t.Context(), queue.TickerMeta{Name: "marked", Payload: content, Period: new(time.Hour), Queue: new("mail")})
	must(err)
	_, err = svc.RunTicker(t.Context(), "marked")
	must(err)

	create := func(group string) int64 {
		t.Helper()
		task, err := svc.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: content, Headers: map[string]string{"h": mark}, Group: group})
		must(err)
		return task.ID
	}
	m := markedTasks{create(""), create(""), create(""), create("tenant"), create("tenant")}
	releases := map[int64]queue.Release{
		m.done:   {Outcome: queue.OutcomeSuccess, Result: content},
		m.retry:  {Outcome: queue.OutcomeFailure, Result: content},
		m.failed: {Outcome: queue.OutcomePermanent, Result: content},
	}
	held, err := svc.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"mail"}, Limit: 100})
	must(err)
	if len(held) != 5 {
		t.Fatalf("%d tasks are retained, want that of the ticker and all but the second one of the group", len(held))
	}
	for _, task := range held {
		_, err := svc.HeartbeatTasks(t.Context(), []queue.Heartbeat{{ID: task.ID, Token: task.Lease.Token, Progress: content}})
		must(err)
		if release, ok := releases[task.ID]; ok {
			release.ID, release.Token = task.ID, task.Lease.Token
			_, err = svc.ReleaseTasks(t.Context(), []queue.Release{release})
			must(err)
		}
	}
	return m
}
