package e2e_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestTwoServersSeveralWorkers is the normal deployment: two independent servers and four workers, one of them
// without a server, share a database. The servers are replaced one by one while all workers work. No task is lost or
// runs twice, and no attempt is spent.
func TestTwoServersSeveralWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	const n, replacements = 400, 4
	dsn := postgrestest.Empty(t)
	servers := []*node{startNodeAt(t, dsn), startNodeAt(t, dsn)}
	one, two := &plant{Client: connect(t, servers[0])}, &plant{Client: connect(t, servers[1])}
	if _, err := one.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var hands []*hand
	for name, way := range map[string][]string{
		"rest-one":    {"--url", servers[0].url},
		"rest-two":    {"--url", servers[1].url},
		"connect-two": {"--url", strings.TrimSuffix(servers[1].url, "/api"), "--protocol", "connect"},
		"database":    {"--database-url", dsn},
	} {
		hands = append(hands, startHand(t, name, dir, append([]string{"-q", "mail", "-c", "4"}, way...)...))
	}
	// Both servers receive creates and releases, also for tasks that the other one gave out.
	var made []*queue.Task
	for i := range n {
		to := []*plant{one, two}[i%2]
		task, err := to.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: []byte("0.02"), Key: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, task)
		if at := n / (replacements + 1); i > 0 && i%at == 0 && i/at <= replacements {
			servers[i/at%2] = replace(t, servers[i/at%2], dsn)
		}
	}
	one.released(t, "mail", n)
	var ends sync.WaitGroup
	for _, h := range hands {
		ends.Go(func() {
			if code := h.stop(t); code != 0 {
				t.Errorf("%s ended with code %d", h.name, code)
			}
		})
	}
	ends.Wait()
	held := map[string]int{}
	for _, task := range queuetest.Created(t, two, "mail") {
		held[task.Worker]++
		if task.Status != queue.StatusReleased || task.Attempt != 1 || task.Retries != queue.DefaultRetries {
			t.Errorf("task %d is %s at attempt %d with %d retries left", task.ID, task.Status, task.Attempt, task.Retries)
		}
	}
	for _, task := range made {
		if got := ran(t, dir, task.ID); len(got) != 1 {
			t.Errorf("task %d ran as attempts %q", task.ID, got)
		}
	}
	t.Logf("worked by %v", held)
	if len(held) != len(hands) {
		t.Errorf("only %v worked", held)
	}
}

// replace stops a server like a deployment and starts another in its place.
func replace(t *testing.T, old *node, dsn string) *node {
	t.Helper()
	u, err := url.Parse(old.url)
	if err != nil {
		t.Fatal(err)
	}
	old.stop(t)
	return startNodeAt(t, dsn, "--addr", u.Host)
}
