package postgrestest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// leaveOpen leaves n transactions open that have written, prepared so that no connection is needed for them.
func leaveOpen(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	if most := value[int](t, conn, "select current_setting('max_prepared_transactions')::int"); most < n+10 {
		t.Skipf("this server takes %d prepared transactions, %d are needed: raise max_prepared_transactions", most, n+10)
	}
	name := value[string](t, conn, "select current_database()::text")
	for i := range n {
		id := fmt.Sprintf("'feed %s %d'", name, i)
		sql(t, conn, "begin", "select pg_current_xact_id()", "prepare transaction "+id)
		t.Cleanup(func() {
			ctx, cancel := cleanupContext(t)
			defer cancel()
			if _, err := conn.Exec(ctx, "rollback prepared "+id); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEventCursorsAreBounded reads the feed beside many open transactions: cursors stay short, and another process resumes
// at each of them without a gap or a repeat, though transactions commit in another order than they began in.
//
// It is not parallel: statements of other tests would be measured beside the open transactions of this one.
func TestEventCursorsAreBounded(t *testing.T) {
	for _, n := range []int{0, 100, 500} {
		t.Run(fmt.Sprintf("%d open transactions", n), func(t *testing.T) {
			dsn := postgrestest.URL(t)
			conn := connect(t, dsn)
			s := open(t, dsn)
			makeQueue(t, s, "tests", "mail")
			leaveOpen(t, conn, n)
			first, err := s.LastEvent(t.Context(), "tests")
			if err != nil {
				t.Fatal(err)
			}

			began, made := beginCreates(t, s, 6)
			var events []queue.Event
			cursor := first
			for _, i := range []int{4, 1, 5, 0} {
				if err := began[i].Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				page := readFeed(t, s, cursor, 1)
				if len(page) != 1 || page[0].TaskID != made[i] {
					t.Fatalf("the creation of task %d has the events %v", made[i], page)
				}
				events = append(events, page...)
				cursor = page[0].Cursor
			}
			makeTask(t, s, "tests", "mail", "mail", "mail", "mail", "mail")
			events = append(events, readFeed(t, s, cursor, 2)...)
			if len(events) != 9 {
				t.Fatalf("there are %d events, want 9: %v", len(events), events)
			}

			// Two more commit around the resume: they began before all that was read.
			for _, i := range []int{3, 2} {
				if err := began[i].Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				events = append(events, queue.Event{TaskID: made[i]})
			}
			other := open(t, dsn)
			longest := len(first)
			for i, e := range append([]queue.Event{{Cursor: first}}, events[:len(events)-2]...) {
				longest = max(longest, len(e.Cursor))
				got := map[int64]int{}
				for _, e := range readFeed(t, other, e.Cursor, 3) {
					got[e.TaskID]++
				}
				for _, e := range events[i:] {
					if got[e.TaskID] != 1 {
						t.Errorf("behind event %d of %d task %d has %d events", i, len(events), e.TaskID, got[e.TaskID])
					}
				}
				if len(got) != len(events)-i {
					t.Errorf("behind event %d of %d the feed names %d tasks", i, len(events), len(got))
				}
			}
			if t.Logf("the longest of the cursors has %d bytes", longest); longest > queue.MaxEventCursor {
				t.Errorf("a cursor has %d bytes, want at most %d", longest, queue.MaxEventCursor)
			}
			if kept := value[int](t, conn, "select count(*) from pgqueue.event_snapshot"); (n > 0) != (kept > 0) {
				t.Errorf("%d snapshots are kept beside %d open transactions", kept, n)
			}
		})
	}
}

// beginCreates begins n transactions that each create a task, and commits none.
func beginCreates(t *testing.T, s *postgres.Store, n int) (began []pgx.Tx, made []int64) {
	t.Helper()
	for range n {
		tx, err := s.Pool().Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := cleanupContext(t)
			defer cancel()
			_ = tx.Rollback(ctx)
		})
		q, err := s.InTx(tx, "tests")
		if err != nil {
			t.Fatal(err)
		}
		task, err := q.CreateTask(t.Context(), "mail", queue.TaskMeta{})
		if err != nil {
			t.Fatal(err)
		}
		began, made = append(began, tx), append(made, task.ID)
	}
	return began, made
}

// readFeed reads the feed behind cursor to its end, in pages of limit, each behind the last event of the one before.
func readFeed(t *testing.T, s *postgres.Store, cursor string, limit int) (events []queue.Event) {
	t.Helper()
	for more := true; more; {
		page, err := s.ListEvents(t.Context(), "tests", queue.EventFilter{After: cursor}, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Next) > queue.MaxEventCursor {
			t.Errorf("the next of a page has %d bytes, want at most %d", len(page.Next), queue.MaxEventCursor)
		}
		events = append(events, page.Events...)
		if cursor, more = page.Next, page.More; len(page.Events) > 0 && more {
			cursor = page.Events[len(page.Events)-1].Cursor
		}
	}
	return events
}

// TestEventSnapshotsAreFew has readers look on while nothing happens, and prune what is older than the events. It is not
// parallel for the same reason.
func TestEventSnapshotsAreFew(t *testing.T) {
	const stay = time.Hour
	dsn := postgrestest.URL(t)
	conn := connect(t, dsn)
	s := open(t, dsn)
	makeQueue(t, s, "tests", "mail")
	makeQueue(t, s, "others", "mail")
	leaveOpen(t, conn, 100)
	makeTask(t, s, "others", "mail") // a snapshot lists those below the last that has ended
	cursor, err := s.LastEvent(t.Context(), "tests")
	if err != nil {
		t.Fatal(err)
	}
	kept := func() int { return value[int](t, conn, "select count(*) from pgqueue.event_snapshot") }
	look := func(s *postgres.Store) {
		t.Helper()
		page, err := s.ListEvents(t.Context(), "tests", queue.EventFilter{After: cursor}, 10)
		if err != nil || len(page.Events) > 0 {
			t.Fatal(page, err)
		}
		cursor = page.Next
	}

	xmax := func() int { return value[int](t, conn, "select pg_snapshot_xmax(pg_current_snapshot())::text::int") }
	before, began := kept(), xmax()
	for range 20 {
		makeTask(t, s, "others", "mail")
		look(s)
	}
	// The server is shared with other tests, and their transactions count too.
	if n, most := kept()-before, (xmax()-began)/1000; n > most {
		t.Errorf("looks that find nothing have kept %d snapshots, want at most %d", n, most)
	}

	// A snapshot stays for as long as a cursor of it is in use, and goes when it is as old as the events.
	sql(t, conn, fmt.Sprintf("update pgqueue.event_snapshot set at = at - interval '%d s'", int((stay+2*time.Minute).Seconds())))
	other := open(t, dsn)
	look(other)
	late, err := other.LastEvent(t.Context(), "tests")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Maintain(t.Context(), queue.ChorePrune); err != nil {
		t.Fatal(err)
	}
	if n := kept(); n == 0 || n > 2 {
		t.Errorf("%d snapshots are kept, want those of the cursors in use alone", n)
	}
	makeTask(t, s, "tests", "mail")
	third := open(t, dsn)
	for name, c := range map[string]string{"the reader that goes on": cursor, "the last event": late} {
		page, err := third.ListEvents(t.Context(), "tests", queue.EventFilter{After: c}, 10)
		if err != nil || len(page.Events) != 1 {
			t.Errorf("%s: %v, %v", name, page, err)
		}
	}

	sql(t, conn, "update pgqueue.event_snapshot set at = at - interval '2 h'")
	if _, err := s.Maintain(t.Context(), queue.ChorePrune); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, dsn).ListEvents(t.Context(), "tests", queue.EventFilter{After: cursor}, 10)
	if queue.KindOf(err) != queue.KindCursorExpired {
		t.Errorf("a cursor without its snapshot gives %v, want %s", err, queue.KindCursorExpired)
	}
}
