package postgrestest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// listed is a page of namespace tests.
func listed(t *testing.T, s *postgres.Store, f queue.TaskFilter, p queue.Page) queue.TaskPage {
	t.Helper()
	page, err := s.ListTasks(t.Context(), "tests", queue.TaskQuery{TaskFilter: f, Page: p})
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// finish has a worker retain and release n tasks of namespace tests, with a result each if result is not empty.
func finish(t *testing.T, s *postgres.Store, worker string, n int, result string) {
	t.Helper()
	out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: worker, Limit: n}}})
	if err != nil || len(out[0]) != n {
		t.Fatal(len(out[0]), err)
	}
	releases := make([]queue.Release, n)
	for i, task := range out[0] {
		releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true, Result: []byte(result)}
	}
	if _, err := s.ReleaseTasks(t.Context(), "tests", releases); err != nil {
		t.Fatal(err)
	}
}

// TestLargeLists is what lists of many tasks do that those of the suite do not: they count, and walk, as far as that takes
// little, and say so.
func TestLargeLists(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	t.Run("tasks by time are counted up to 1,000, by status all of them", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		makeQueue(t, s, "tests", "mail")
		conn := connect(t, s.Pool().Config().ConnString())
		before := value[time.Time](t, conn, "select pgqueue.clock()")
		makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, 1000)...)
		for _, c := range []struct {
			f       queue.TaskFilter
			count   int64
			atLeast bool
		}{
			{queue.TaskFilter{CreatedAfter: before}, 1000, false},
			{queue.TaskFilter{CreatedAfter: before, Statuses: []queue.Status{queue.StatusNew}}, 1000, false},
			{queue.TaskFilter{CreatedBefore: before}, 0, false},
		} {
			if page := listed(t, s, c.f, queue.Page{}); page.Count != c.count || page.AtLeast != c.atLeast {
				t.Errorf("%+v: %d, at least: %v", c.f, page.Count, page.AtLeast)
			}
		}
		makeTask(t, s, "tests", "mail")
		for _, c := range []struct {
			f       queue.TaskFilter
			count   int64
			atLeast bool
		}{
			{queue.TaskFilter{CreatedAfter: before}, 1000, true},
			{queue.TaskFilter{CreatedAfter: before, Statuses: []queue.Status{queue.StatusNew}}, 1000, true},
			{queue.TaskFilter{}, 1001, false},
			{queue.TaskFilter{Statuses: []queue.Status{queue.StatusNew}}, 1001, false},
		} {
			if page := listed(t, s, c.f, queue.Page{}); page.Count != c.count || page.AtLeast != c.atLeast {
				t.Errorf("with one more, %+v: %d, at least: %v", c.f, page.Count, page.AtLeast)
			}
		}
	})
	t.Run("a text is found behind many steps of a search, which says how far it looked", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		makeQueue(t, s, "tests", "mail")
		const others = 5_000
		found := queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(`{"to": "ann"}`)}}
		made, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "tests", Tasks: []queue.NewTask{found}, Atomic: true})
		if err != nil {
			t.Fatal(err)
		}
		makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, others)...)

		var got []int64
		var examined int64
		for cursor, pages := "", 0; ; pages++ { // a slow machine needs more than one page
			page := listed(t, s, queue.TaskFilter{Queue: "mail", Text: `"ann"`}, queue.Page{Cursor: cursor})
			for _, task := range page.Tasks {
				got = append(got, task.ID)
			}
			examined += page.Examined
			if cursor = page.Next; cursor == "" || pages > others {
				break
			}
		}
		if !slices.Equal(got, []int64{made[0].Task.ID}) || examined < others {
			t.Errorf("found %v of task %d, looked at %d", got, made[0].Task.ID, examined)
		}

		b, err := s.CancelTasks(t.Context(), "tests", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail", Text: `"ann"`}})
		if err != nil || b.Moved != 1 || b.Next != "" {
			t.Errorf("a cancel: %+v, %v", b, err)
		}

		// Payloads may be large, so a call reads few of them before it looks at its time.
		b, err = s.CancelTasks(t.Context(), "tests", queue.Selection{Filter: &queue.TaskFilter{Queue: "mail", Text: "nothing"}, Within: 1})
		if read, perr := queue.ReadBulkCursor(b.Next); err != nil || perr != nil || read < made[0].Task.ID+others-200 {
			t.Errorf("a cancel within no time went on to task %d of %d: %+v, %v", read, made[0].Task.ID+others, b, err)
		}
	})
	t.Run("a time finds what was created before it and after it, whatever else there is", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t, postgres.WithPartitionSize(1000))
		conn := connect(t, s.Pool().Config().ConnString())
		names := []string{"a", "b", "c"}
		for _, name := range names {
			makeQueue(t, s, "tests", name)
		}
		var times []time.Time
		for i := range 12 {
			times = append(times, value[time.Time](t, conn, "select pgqueue.clock()"))
			makeTask(t, s, "tests", slices.Repeat([]string{names[i%3]}, 300)...)
			postgrestest.Advance(t, s, time.Hour)
		}
		// Out of step by what a clock that was set back makes of it.
		sql(t, conn, "update pgqueue.task set created_at = created_at - interval '5 s' where id % 7 = 0")
		type made struct {
			id int64
			at time.Time
		}
		var all []made
		for cursor := ""; ; {
			page := listed(t, s, queue.TaskFilter{}, queue.Page{Limit: 1000, Cursor: cursor})
			for _, task := range page.Tasks {
				all = append(all, made{task.ID, task.CreatedAt})
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if len(all) != 3600 {
			t.Fatalf("%d tasks", len(all))
		}
		for i, at := range times {
			for _, f := range []queue.TaskFilter{
				{CreatedAfter: at}, {CreatedBefore: at}, {CreatedAfter: at, CreatedBefore: at.Add(150 * time.Minute)}, {CreatedAfter: at.Add(-3 * time.Second)},
			} {
				var want, got []int64
				for _, m := range all {
					if m.at.After(f.CreatedAfter) && (f.CreatedBefore.IsZero() || m.at.Before(f.CreatedBefore)) {
						want = append(want, m.id)
					}
				}
				for cursor := ""; ; {
					page := listed(t, s, f, queue.Page{Limit: 1000, Cursor: cursor})
					for _, task := range page.Tasks {
						got = append(got, task.ID)
					}
					if page.Count != min(int64(len(want)), 1000) || page.AtLeast != (len(want) > 1000) {
						t.Errorf("%d %+v: %d, at least: %v; they are %d", i, f, page.Count, page.AtLeast, len(want))
					}
					if cursor = page.Next; cursor == "" {
						break
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%d %+v: %d tasks, want %d", i, f, len(got), len(want))
				}
			}
		}
	})
	t.Run("a worker's tasks behind many of others' are found page by page", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		makeQueue(t, s, "tests", "mail")
		makeTask(t, s, "tests", "mail", "mail")
		finish(t, s, "ann", 2, "")
		const others = 25_000
		for range others / 5000 {
			makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, 5000)...)
			finish(t, s, "bob", 5000, "1") // a result each keeps them from being one row for 32
		}
		f := queue.TaskFilter{Worker: "ann", Statuses: []queue.Status{queue.StatusReleased}}
		var found []int64
		pages := 0
		for cursor := ""; ; pages++ {
			page := listed(t, s, f, queue.Page{Cursor: cursor})
			for _, task := range page.Tasks {
				found = append(found, task.ID)
			}
			if cursor == "" && (len(page.Tasks) > 0 || !page.AtLeast || page.Next == "") {
				t.Errorf("the first page has %d tasks of at least %d: %v, next %q", len(page.Tasks), page.Count, page.AtLeast, page.Next)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if len(found) != 2 || pages < 2 {
			t.Errorf("%v were found on %d pages", found, pages+1)
		}
		bulk, err := s.DeleteTasks(t.Context(), "tests", queue.Selection{Filter: &f})
		if err != nil || bulk.Matched != 2 || bulk.Moved != 2 {
			t.Errorf("a bulk operation moves %d of %d, %v", bulk.Moved, bulk.Matched, err)
		}
		if page := listed(t, s, queue.TaskFilter{Worker: "bob"}, queue.Page{}); len(page.Tasks) != 100 || page.Count != 1000 || !page.AtLeast {
			t.Errorf("of the other %d tasks are listed, of at least %d: %v", len(page.Tasks), page.Count, page.AtLeast)
		}
	})
	t.Run("tasks past retention are not counted with any filter", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.Open(t)
		makeQueue(t, s, "tests", "mail")
		makeTask(t, s, "tests", slices.Repeat([]string{"mail"}, 300)...)
		finish(t, s, "ann", 200, "")
		postgrestest.Advance(t, s, 6*24*time.Hour)
		finish(t, s, "ann", 50, "")
		postgrestest.Advance(t, s, 2*24*time.Hour)
		now := value[time.Time](t, connect(t, s.Pool().Config().ConnString()), "select pgqueue.clock()")
		done := []queue.Status{queue.StatusReleased}
		for _, c := range []struct {
			f    queue.TaskFilter
			want int64
		}{
			{queue.TaskFilter{}, 100},
			{queue.TaskFilter{Statuses: done}, 50},
			{queue.TaskFilter{CreatedBefore: now}, 100},
			{queue.TaskFilter{CreatedBefore: now, Statuses: done}, 50},
			{queue.TaskFilter{Worker: "ann"}, 50},
		} {
			if page := listed(t, s, c.f, queue.Page{Limit: 10}); page.Count != c.want || page.AtLeast {
				t.Errorf("%+v: %d, want %d", c.f, page.Count, c.want)
			}
		}
	})
}

// TestListsWithoutPages: workers and tokens beyond the bytes or the number of their list are never all in memory.
func TestListsWithoutPages(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	dsn := postgrestest.URL(t)
	s, conn := open(t, dsn), connect(t, dsn)
	makeQueue(t, s, "acme", "mail")

	// Each worker counts as more than 500 bytes.
	sql(t, conn, fmt.Sprintf(`insert into pgqueue.lease (token, queue_id, retained_at, expires_at, granted, worker, held, task_ids)
		select i * 256, q.id, now(), now() + interval '1 hour', 0, lpad(i::text, %d, 'w'), 1, array[i]
		from pgqueue.queue q, generate_series(1::bigint, %d) i where q.name = 'mail'`, queue.MaxWorkerBytes, queue.MaxListBytes/500))
	if list, err := s.ListWorkers(t.Context(), "acme"); queue.KindOf(err) != queue.KindTooLarge || list != nil || !strings.Contains(err.Error(), "list the retained tasks") {
		t.Errorf("%d workers: %v", len(list), err)
	}
	sql(t, conn, "delete from pgqueue.lease where token > 100 * 256")
	if list, err := s.ListWorkers(t.Context(), "acme"); err != nil || len(list) != 100 {
		t.Errorf("%d workers, want 100: %v", len(list), err)
	}

	token := func(ids, ended string) {
		t.Helper()
		sql(t, conn, fmt.Sprintf(`insert into pgqueue.access_token (id, digest, name, grants, created_by, created_at, expires_at, replaces, revoked_at)
			select format('id%%s', i), sha256(i::text::bytea), 'name', '{admin@*}', 'owner', now() - make_interval(secs => i), null, '', %s from generate_series(%s) i`, ended, ids))
	}
	token("1, 3000", "now()")
	token("3001, 3020", "null")
	list, err := s.ListTokens(t.Context())
	if err != nil || len(list) != access.MaxEndedTokens+20 {
		t.Fatalf("%d tokens: %v", len(list), err)
	}
	if list[0].ID != "id1" || list[access.MaxEndedTokens-1].ID != fmt.Sprint("id", access.MaxEndedTokens) || list[access.MaxEndedTokens].ID != "id3001" {
		t.Errorf("the list has %s, …, %s, %s", list[0].ID, list[access.MaxEndedTokens-1].ID, list[access.MaxEndedTokens].ID)
	}
}
