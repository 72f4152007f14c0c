package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// TestValidTokensPassBesideAFlood works with 500 workers of one address, by stored tokens, over REST and by streams. Beside them a
// flood of wrong credentials comes from the same address: some cost the server a query each, and soon all get 429. No call with
// a valid token is refused. PGQUEUE_TEST_FULL has a token for each worker and works for longer than the cache of tokens holds one.
func TestValidTokensPassBesideAFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	const workers = 500
	tokens, rounds := 25, 1
	if os.Getenv("PGQUEUE_TEST_FULL") != "" {
		tokens, rounds = workers, 40
	}
	admin := access.NewSecret().Reveal()
	n := startNodeAt(t, postgrestest.URL(t), "--admin-token-file", writeSecret(t, admin), "--log-level", "warn")
	svc := dialWith(t, n, "rest", admin)
	if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	issued := make([]access.IssuedToken, tokens+1)
	for i := range issued {
		var err error
		issued[i], err = svc.(access.Admin).CreateToken(t.Context(), access.TokenRequest{Name: fmt.Sprint(i), Grants: []string{"admin@default"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	revoked := issued[tokens]
	if _, err := svc.(access.Admin).RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}

	flooding, endFlood := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	var answers [600]atomic.Int64
	for i := range 8 {
		flood.Go(func() { sendWrong(flooding, t, n, i, revoked.Secret.Reveal(), &answers) })
	}

	var working sync.WaitGroup
	var worked atomic.Int64
	for i := range workers {
		way := ways[i%len(ways)]
		client := dialWith(t, n, way, issued[i%tokens].Secret.Reveal())
		if connected, ok := client.(*connectclient.Client); ok {
			stream := connectclient.NewStream(connected)
			t.Cleanup(stream.Close)
			client = stream
		}
		working.Go(func() {
			for range rounds {
				n, err := workOne(t.Context(), client, fmt.Sprint("w", i))
				if err != nil {
					t.Errorf("worker %d over %s: %v", i, way, err)
					return
				}
				worked.Add(int64(n))
			}
		})
	}
	working.Wait()
	for answers[http.StatusTooManyRequests].Load() == 0 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	endFlood()
	flood.Wait()
	t.Logf("%d tasks worked beside %d answers 401 and %d answers 429", worked.Load(), answers[401].Load(), answers[429].Load())
	if worked.Load() == 0 {
		t.Error("no task was worked")
	}
}

// workOne creates a task, takes one and releases it. It returns the number of tasks that it released.
func workOne(ctx context.Context, svc queue.Service, name string) (int, error) {
	if _, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{}); err != nil {
		return 0, err
	}
	tasks, err := svc.RetainTasks(ctx, queue.RetainRequest{Queues: []string{"mail"}, Worker: name, Limit: 1})
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		lease := task.Lease
		if _, err := svc.HeartbeatTasks(ctx, []queue.Heartbeat{{ID: task.ID, Token: lease.Token}}); err != nil {
			return 0, err
		}
		if _, err := svc.ReleaseTasks(ctx, []queue.Release{{ID: task.ID, Token: lease.Token, Outcome: queue.OutcomeSuccess}}); err != nil {
			return 0, err
		}
	}
	return len(tasks), nil
}

// sendWrong sends requests with wrong credentials until ctx ends, over REST for even numbers of the sender and over Connect
// for odd ones, and counts the answers by status. Another status than 401 and 429 fails the test.
func sendWrong(ctx context.Context, t *testing.T, n *node, sender int, revoked string, answers *[600]atomic.Int64) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	method, target := http.MethodGet, n.url+"/queue"
	if sender%2 == 1 {
		method, target = http.MethodPost, strings.TrimSuffix(n.url, "/api")+"/pgqueue.v1.QueueService/ListQueues"
	}
	for i := 0; ctx.Err() == nil; i++ {
		wrong := []string{access.NewSecret().Reveal(), revoked, "x", strings.Repeat("x", 4096)}[i%4]
		req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader("{}"))
		if err != nil {
			t.Error(err)
			return
		}
		if method == http.MethodGet {
			req.Body, req.ContentLength = http.NoBody, 0
		}
		req.Header.Set("Authorization", "Bearer "+wrong)
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("request %d of sender %d: %v", i, sender, err)
			}
			return
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("request %d of sender %d: %d", i, sender, resp.StatusCode)
			return
		}
		answers[resp.StatusCode].Add(1)
	}
}
