package restapi

import (
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestBytesOfRows holds the rows of each list to their count of bytes, with the longest names that callers may choose.
func TestBytesOfRows(t *testing.T) {
	name, text := strings.Repeat("n", queue.MaxNameBytes), strings.Repeat("\x01", queue.MaxWorkerBytes)
	when := time.Date(2026, 11, 30, 23, 59, 59, 123456789, time.UTC)
	most := int64(1 << 53)
	var names []string
	for range queue.MaxWorkerQueues {
		names = append(names, name)
	}
	var grants []access.Grant
	for range access.MaxGrants {
		grants = append(grants, access.Grant{Role: "operator", Namespace: name, Queue: name})
	}
	q, err := queue.NewQueue(name, queue.QueueMeta{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	q.TTL, q.CreatedAt, q.PausedUntil, q.MaxWaiting, q.Concurrency = queue.MaxDuration, when, when, 1<<30, queue.MaxConcurrency
	stats := &queue.QueueStats{Namespace: name, Queue: name, Counts: map[queue.Status]int64{}, Ready: most, Delayed: most, GroupWaiting: most, OldestReadyAge: 1 << 62, CreatedPerSecond: 1.0 / 3, FinishedPerSecond: 1.0 / 3}
	for _, status := range queue.Statuses() {
		stats.Counts[status] = most
	}
	worker := queue.Worker{Name: text, Held: most, Since: when, Queues: names, QueueCount: 1 << 30, ExpiresAt: when}
	group := &queue.Group{
		Queue: name, Name: text, Waiting: most, Retained: most, Next: when, Blocked: most,
		GroupPolicy: queue.GroupPolicy{Weight: 1000, Concurrency: 256, RateLimit: 1 << 30, RatePeriod: 1 << 62, RateBurst: 1 << 30, PausedUntil: when},
	}
	event := queue.Event{Cursor: strings.Repeat("c", queue.MaxEventCursor), Kind: queue.EventCancelled, Namespace: name, Queue: name, TaskID: most, Worker: text, At: when}
	token := access.Token{ID: name, Name: strings.Repeat("\"", access.MaxTokenName), Grants: grants, CreatedBy: name, CreatedAt: when, ExpiresAt: when, UsedAt: when, RevokedAt: when, Replaces: name, Now: when}
	session := access.Session{
		ID: name, CreatedAt: when, ExpiresAt: when, Idle: 1 << 62, UsedAt: when, EndedAt: when, Now: when,
		Opener: access.Opener{PrincipalID: name, Kind: access.KindToken, Name: text, Grants: grants, Issuer: text, Subject: text},
	}

	for row, c := range map[string]struct {
		wire  any
		count int
	}{
		"worker": {WorkerOf(worker), worker.Bytes()}, "queue": {QueueOf(&q), q.Bytes()}, "stats": {QueueStatsOf(stats), stats.Bytes()},
		"group": {GroupOf(group), group.Bytes()}, "event": {EventOf(event), event.Bytes()}, "token": {TokenOf(token), token.Bytes()},
		"session": {SessionOf(session), session.Bytes()},
	} {
		text, err := Append(nil, c.wire)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > c.count || c.count > 2*len(text)+1024 {
			t.Errorf("%s: %d bytes count as %d", row, len(text), c.count)
		}
	}
}
