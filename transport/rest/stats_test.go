package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// readStats opens a stream of statistics and returns a function that reads the next event.
func readStats(t *testing.T, s *stack) func() (event string, change restapi.StatsChange) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/stats", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", restapi.MediaEventStream)
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), restapi.MediaEventStream) {
		t.Fatal(resp.Status, resp.Header)
	}

	lines := bufio.NewScanner(resp.Body)
	return func() (event string, change restapi.StatsChange) {
		t.Helper()
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &change); err != nil {
					t.Fatal(err)
				}
				return event, change
			}
		}
		t.Fatal("the stream has ended:", lines.Err())
		return "", change
	}
}

func TestStatsStreamsShareReadings(t *testing.T) {
	store := queuetest.NewFaulty(memory.New())
	m, err := manager.New(store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	s := serve(t, m)
	for _, name := range []string{"a", "b"} {
		if _, err := m.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
	}

	began := time.Now()
	const viewers = 8
	var next []func() (string, restapi.StatsChange)
	for range viewers {
		read := readStats(t, s)
		event, first := read()
		if event != restapi.EventStats || len(first.Body) != 2 || first.Body[0].Queue != "a" || first.Body[1].Counts["new"] != 0 {
			t.Fatalf("the first event is %s %+v", event, first)
		}
		next = append(next, read)
	}

	if _, err := m.CreateTask(t.Context(), "b", queue.TaskMeta{}); err != nil {
		t.Fatal(err)
	}
	for _, read := range next {
		if _, change := read(); len(change.Body) != 1 || change.Body[0].Queue != "b" || change.Body[0].Ready != 1 || change.Deleted != nil {
			t.Errorf("the change is %+v", change)
		}
	}

	if _, err := m.DeleteQueue(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, read := range next {
		for {
			_, change := read() // the age of the ready task of b grows meanwhile
			if slices.Equal(change.Deleted, []string{"a"}) {
				break
			}
			if len(change.Body) != 1 || change.Body[0].Queue != "b" {
				t.Fatalf("the change is %+v", change)
			}
		}
	}

	// A reading begins a second behind the end of the one before, also with many viewers.
	if most, calls := int(time.Since(began)/queue.StatsAge)+1, store.Calls("QueueStats"); calls > most {
		t.Errorf("%d readings in %v for %d viewers", calls, time.Since(began), viewers)
	}
}

func TestDoctorOverREST(t *testing.T) {
	s := newStack(t)
	if a := s.do(404, "GET", "/api/doctor", ""); !strings.Contains(a.body, "pgqueue doctor") {
		t.Error(a.body)
	}

	var asked []queue.Action
	s = newStack(t, func(c *restserver.Config) {
		c.Diagnose = func(context.Context) ([]queue.Finding, error) {
			return []queue.Finding{{Name: "fsync", Level: queue.LevelFail, Value: "off", Advice: "turn it on"}}, nil
		}
		c.Authorize = func(_ context.Context, action queue.Action, _ string) error {
			asked = append(asked, action)
			if len(asked) == 1 {
				return &queue.Error{Kind: queue.KindDenied, Msg: "no"}
			}
			return nil
		}
	})
	s.do(403, "GET", "/api/doctor", "")
	a := s.do(200, "GET", "/api/doctor", "")
	if !strings.Contains(a.body, `{"count":1,"body":[{"name":"fsync","level":"fail","value":"off","advice":"turn it on"}]}`) {
		t.Error(a.body)
	}
	if !slices.Equal(asked, []queue.Action{queue.ActionSystemRead, queue.ActionSystemRead}) {
		t.Error(asked)
	}
}

func TestScaleOfQueues(t *testing.T) {
	m, err := manager.New(memory.New())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	s := serve(t, m)
	for _, name := range []string{"a", "b"} {
		if _, err := m.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := m.CreateTask(t.Context(), name, queue.TaskMeta{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := m.RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"b"}, Limit: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.UpdateQueue(t.Context(), "b", queue.QueueMeta{Paused: new(true)}); err != nil {
		t.Fatal(err)
	}

	for path, want := range map[string]string{
		"/queue/a/scale":                    `{"slots":3,"ready":3,"retained":0,"active":true}`,
		"/queue/b/scale?within=1m":          `{"slots":2,"ready":1,"retained":2,"active":true}`,
		"/queue/a/scale?queue=b&within=30s": `{"slots":5,"ready":4,"retained":2,"active":true}`,
		"/queue/a/scale?within=1ms":         `"field":"within"`,
		"/queue/a/scale?within=0s":          `"field":"within"`,
		"/queue/a/scale?queue=missing":      `"code":"not_found","subject":"queue missing"`,
		"/queue/a/scale?queue=b&queue=%00":  `"field":"queue`,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %s (%v), want %s", path, resp.Status, body, err, want)
		}
	}
}
