package e2e_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestRevocationReachesADeafServer revokes a token through one server while another one on the same PostgreSQL receives no
// notification. The other server refuses the token, and with PGQUEUE_TEST_FULL, which waits for them, ends its open streams and
// waiting calls. Both take at most 10 s.
func TestRevocationReachesADeafServer(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	t.Parallel() // it mostly waits for the end of a cache

	// Notifications stay in their database, so a listener of another database hears none.
	dsn, elsewhere := postgrestest.URL(t), postgrestest.Empty(t)
	admin := access.NewSecret().Reveal()
	tokens := writeSecret(t, admin)
	first := startNodeAt(t, dsn, "--admin-token-file", tokens, "--listen-url", elsewhere)
	second := startNodeAt(t, dsn, "--admin-token-file", tokens, "--listen-url", elsewhere)

	svc := dialWith(t, first, "rest", admin)
	if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	issued, err := svc.(access.Admin).CreateToken(t.Context(), access.TokenRequest{Name: "a", Grants: []string{"admin@default"}})
	if err != nil {
		t.Fatal(err)
	}

	calls := map[string]chan error{}
	for _, way := range []string{"rest", "connect", "grpc"} {
		client := dialWith(t, second, way, issued.Secret.Reveal())
		if _, err := client.ListQueues(t.Context(), queue.Page{}); err != nil {
			t.Fatal(err) // the second server has the token in its cache
		}
		if os.Getenv("PGQUEUE_TEST_FULL") == "" {
			continue
		}
		calls["events over "+way] = follow(t, func(ctx context.Context) error {
			return client.SubscribeEvents(ctx, queue.EventFilter{}, func(queue.Event) error { return nil })
		})
		calls["a waiting retain over "+way] = follow(t, func(ctx context.Context) error {
			_, err := client.RetainTasks(ctx, queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Wait: 5 * time.Minute})
			return err
		})
	}

	if _, err := svc.(access.Admin).RevokeToken(t.Context(), issued.ID); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	used := dialWith(t, second, "rest", issued.Secret.Reveal())
	for err = nil; err == nil; time.Sleep(5 * time.Millisecond) {
		if time.Since(revoked) > time.Minute { // far above the promised 10 s, for a busy machine
			t.Fatal("the deaf server goes on to take the revoked token")
		}
		_, err = used.ListQueues(t.Context(), queue.Page{})
	}
	if queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("a revoked token gets %v", err)
	}
	t.Logf("refused after %v", time.Since(revoked))
	for name, ended := range calls {
		if err := <-ended; queue.KindOf(err) != queue.KindUnauthenticated {
			t.Errorf("%s ended with %v", name, err)
		}
		t.Logf("%s ended within %v", name, time.Since(revoked))
	}
}
