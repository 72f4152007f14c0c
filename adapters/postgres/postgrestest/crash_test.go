package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// errorsOf joins errors, but for the end of a context.
func errorsOf(errs ...error) error {
	var out []error
	for _, err := range errs {
		if !errors.Is(err, context.Canceled) {
			out = append(out, err)
		}
	}
	return errors.Join(out...)
}

// TestCrash ends PostgreSQL by SIGKILL while tasks are created and released, with full durability.
func TestCrash(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	rounds := sized(t, 2, 20)
	data := filepath.Join(t.TempDir(), "data")
	if err := os.Chmod(filepath.Dir(data), 0o777); err != nil { // for the user that PostgreSQL runs as
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(filepath.Dir(data)), 0o777); err != nil {
		t.Fatal(err)
	}
	launch := func() *embedded.Server {
		t.Helper()
		pg, err := embedded.Start(t.Context(), append(binaries(), embedded.WithDataDir(data))...)
		if err != nil {
			t.Fatal(err)
		}
		return pg
	}
	pg := launch()
	defer func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		if err := pg.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	open := func() *postgres.Store {
		t.Helper()
		s, err := postgres.Open(t.Context(), pg.DSN(), postgres.WithCallTimeout(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if _, err := s.MigrateUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	makeQueue(t, s, "tests", "mail")

	var mu sync.Mutex
	created, released := map[int64]bool{}, map[int64]bool{} // acknowledged
	unsure := map[string]int{}                              // creates by payload without a known result, or that failed
	kinds := map[queue.Kind]int{}
	sent := 0
	for round := range rounds {
		mu.Lock()
		goal := len(created) + 300
		mu.Unlock()
		enough := make(chan struct{})
		var work sync.WaitGroup
		stop, halt := context.WithCancel(t.Context())
		reached := sync.OnceFunc(func() { close(enough) })
		fault := func(err error) bool {
			if err == nil {
				return false
			}
			mu.Lock()
			defer mu.Unlock()
			kinds[queue.KindOf(err)]++
			return true
		}
		for range 4 {
			work.Go(func() {
				for stop.Err() == nil {
					mu.Lock()
					sent++
					mark := strconv.Itoa(sent)
					mu.Unlock()
					out, err := s.CreateTasks(t.Context(), queue.Create{Namespace: "tests", Tasks: []queue.NewTask{
						{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(mark)}}, {Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte(mark)}},
					}})
					if fault(err) {
						mu.Lock()
						unsure[mark] = 2
						if queue.KindOf(err) != queue.KindIndeterminate {
							unsure[mark] = 0 // it says that nothing was done
						}
						mu.Unlock()
						continue
					}
					mu.Lock()
					for _, c := range out {
						created[c.Task.ID] = true
					}
					if len(created) > goal {
						reached()
					}
					mu.Unlock()
				}
			})
			work.Go(func() {
				for stop.Err() == nil {
					out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 3, Lease: time.Hour}}})
					if fault(err) || len(out[0]) == 0 {
						continue
					}
					releases := make([]queue.Release, len(out[0]))
					for i, task := range out[0] {
						releases[i] = queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Quiet: true}
					}
					ended, err := s.ReleaseTasks(t.Context(), "tests", releases)
					if fault(err) {
						continue
					}
					mu.Lock()
					for i, e := range ended {
						if e.Err == nil {
							released[releases[i].ID] = true
						} else {
							t.Errorf("round %d: a release was refused: %v", round, e.Err)
						}
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		crash(t, pg)
		halt()
		work.Wait()
		s.Close()
		ctx, cancel := cleanupContext(t)
		_ = pg.Stop(ctx) // it has ended; this waits for its folder
		cancel()
		pg = launch()
		s = open()
	}
	defer s.Close()

	t.Logf("%d creates and %d releases were acknowledged; errors: %v", len(created), len(released), kinds)
	for kind := range kinds {
		if !slices.Contains([]queue.Kind{queue.KindUnavailable, queue.KindIndeterminate, queue.KindDeadline}, kind) {
			t.Errorf("a crash was answered by %s", kind)
		}
	}
	lost := 0
	for ids := range slices.Chunk(slices.Collect(maps.Keys(created)), 1000) {
		there, err := s.GetTasks(t.Context(), "tests", ids, false)
		if err != nil {
			t.Fatal(err)
		}
		lost += len(ids) - len(there)
		for _, task := range there {
			if released[task.ID] && task.Status != queue.StatusReleased {
				t.Errorf("task %d was released, and is %s after the crash", task.ID, task.Status)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d acknowledged tasks are gone", lost)
	}
	// A create that failed for certain left nothing, one with an unknown result left all or nothing.
	conn := connect(t, pg.DSN())
	rows, err := conn.Query(t.Context(), "select payload::text, count(*) from pgqueue.task group by 1")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var mark string
		var n int
		if err := rows.Scan(&mark, &n); err != nil {
			t.Fatal(err)
		}
		most, failed := unsure[mark]
		if failed && (n > most || n != 2) || n != 2 {
			t.Errorf("create %s left %d of 2 tasks, at most %d may be there", mark, n, most)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	recounted(t, s)
}

// crash ends all processes of pg at once.
func crash(t *testing.T, pg *embedded.Server) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pg.DataDir(), "postmaster.pid"))
	if err != nil {
		matches, _ := filepath.Glob(filepath.Join(pg.DataDir(), "*", "postmaster.pid"))
		if len(matches) != 1 {
			t.Fatal(err)
		}
		if text, err = os.ReadFile(matches[0]); err != nil {
			t.Fatal(err)
		}
	}
	pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	if err != nil || pid < 2 {
		t.Fatal(pid, err)
	}
	all := children(pid)
	if len(all) == 0 {
		t.Log("only the postmaster is killed") // the others end with it, as they notice
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		_ = syscall.Kill(one, syscall.SIGKILL) // it may have ended with the postmaster
	}
}

// children lists the processes that pid has started, where the system lists them.
func children(pid int) (all []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for one := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(one); err == nil {
			all = append(all, n)
		}
	}
	return all
}
