package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

//go:generate go run testdata/generate.go

// TestMainJob runs the main use of pgqueue with real programs on a real PostgreSQL: tasks are created, worked and
// listed. A kill of all processes in the middle loses no acknowledged change.
func TestMainJob(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	input, err := os.ReadFile("testdata/tasks.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(input)), "\n")
	if len(lines) < 1000 {
		t.Fatalf("%d records are too few", len(lines))
	}
	data := dataDir(t)
	n := startNode(t, data)

	// A change that the server has acknowledged must stay.
	status, payload := map[int64]queue.Status{}, map[int64]string{}

	n.pgqueue(t, "", "create-queue", "mail", "--retries", "2", "--lease", "1h", "--retry-delay", "1h")
	var made restapi.List[restapi.Task]
	decode(t, n.pgqueue(t, string(input), "create-task", "mail", "--payload", "-"), &made)
	if len(made.Body) != len(lines) {
		t.Fatalf("%d lines became %d tasks", len(lines), len(made.Body))
	}
	for i, task := range made.Body {
		status[task.ID], payload[task.ID] = queue.StatusNew, lines[i]
	}

	var held restapi.List[restapi.Task]
	decode(t, n.pgqueue(t, "", "retain-task", "mail", "--worker", "w1", "--limit", strconv.Itoa(len(lines))), &held)
	if len(held.Body) != len(lines) {
		t.Fatalf("%d of %d tasks were retained", len(held.Body), len(lines))
	}
	for _, task := range held.Body {
		status[task.ID] = queue.StatusRetained
	}
	// Half of the tasks succeed and a tenth fails, half of those permanently. The test releases a few of each by hand.
	half, tenth := len(lines)/2, len(lines)/10
	client := connect(t, n)
	var releases []queue.Release
	for i, task := range held.Body[:half+tenth] {
		token, byHand := strconv.FormatInt(task.Lease.Token, 10), i%100 == 0
		args := []string{"complete-task", strconv.FormatInt(task.ID, 10), "--token", token}
		r := queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Result: json.RawMessage(`{"ok":true}`)}
		status[task.ID] = queue.StatusReleased
		switch {
		case i < half:
			args = append(args, "--result", `{"ok":true}`)
		case i%2 == 0:
			args = append(args, "--error", `{"msg":"no such address"}`, "--permanent")
			r.Outcome, r.Result, status[task.ID] = queue.OutcomePermanent, json.RawMessage(`{"msg":"no such address"}`), queue.StatusFailed
		default:
			args = append(args, "--error", `{"msg":"busy"}`)
			r.Outcome, r.Result, status[task.ID] = queue.OutcomeFailure, json.RawMessage(`{"msg":"busy"}`), queue.StatusRetry
		}
		if byHand {
			n.pgqueue(t, "", args...)
		} else {
			releases = append(releases, r)
		}
	}
	out, err := client.ReleaseTasks(t.Context(), releases)
	if err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if out[i].Err != nil {
			t.Fatal(out[i].Err)
		}
	}
	t.Run("tasks shows the right statuses", func(t *testing.T) { compare(t, n, status, payload) })

	// The kill comes while tasks are created and worked. A caller without an answer knows nothing; an answer is a promise.
	var mu sync.Mutex
	var writers sync.WaitGroup
	enough := make(chan struct{})
	acknowledged := 0
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				body := fmt.Sprintf(`{"writer":%d,"n":%d}`, w, i)
				task, err := client.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: json.RawMessage(body)})
				if err != nil {
					return
				}
				mu.Lock()
				status[task.ID], payload[task.ID] = queue.StatusNew, body
				if acknowledged++; acknowledged == 200 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	writers.Go(func() { // a worker releases the rest of the held tasks
		for _, task := range held.Body[half+tenth:] {
			got, err := client.ReleaseTasks(t.Context(), []queue.Release{{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess}})
			mu.Lock()
			switch {
			case err != nil:
				delete(status, task.ID) // in doubt: it is retained or released
				mu.Unlock()
				return
			case got[0].Err != nil:
				t.Errorf("task %d: %v", task.ID, got[0].Err)
			}
			status[task.ID] = queue.StatusReleased
			mu.Unlock()
		}
	})
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Fatal("the writers do not come forward")
	}
	n.kill(t)
	writers.Wait()

	n = startNode(t, data)
	t.Run("nothing acknowledged is missing after a kill of server and PostgreSQL", func(t *testing.T) {
		t.Logf("%d creates were acknowledged while it was killed", acknowledged)
		compare(t, n, status, payload)
	})
	t.Run("and the work goes on", func(t *testing.T) {
		var next restapi.List[restapi.Task]
		decode(t, n.pgqueue(t, "", "retain-task", "mail", "--worker", "w2", "--limit", "10", "--wait", "10s"), &next)
		if len(next.Body) != 10 {
			t.Fatalf("%d tasks", len(next.Body))
		}
	})
}

func connect(t *testing.T, n *node) *restclient.Client {
	t.Helper()
	c, err := restclient.New(n.url, restclient.WithAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %.200q", err, text)
	}
}

// compare lists the tasks like a user, page by page and status by status, and reads each expected task.
func compare(t *testing.T, n *node, status map[int64]queue.Status, payload map[int64]string) {
	t.Helper()
	found := map[int64]restapi.Task{}
	for _, s := range queue.Statuses() {
		for cursor := ""; ; {
			args := []string{"tasks", "--queue", "mail", "--status", string(s), "--limit", "1000"}
			if cursor != "" {
				args = append(args, "--cursor", cursor)
			}
			var page restapi.List[restapi.Task]
			decode(t, n.pgqueue(t, "", args...), &page)
			for _, task := range page.Body {
				if task.Status != string(s) {
					t.Errorf("task %d is %s, listed as %s", task.ID, task.Status, s)
				}
				found[task.ID] = task
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
	}
	wrong := 0
	for _, id := range slices.Sorted(maps.Keys(status)) {
		task, ok := found[id]
		switch {
		case !ok:
			t.Errorf("task %d is missing", id)
		case task.Status != string(status[id]):
			t.Errorf("task %d is %s, not %s", id, task.Status, status[id])
		case !bytes.Equal(task.Payload, []byte(payload[id])):
			t.Errorf("task %d has the payload %s, not %s", id, task.Payload, payload[id])
		default:
			continue
		}
		if wrong++; wrong == 20 {
			t.Fatal("and so on")
		}
	}
}
