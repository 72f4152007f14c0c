package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// plant is a server on PostgreSQL with the ways in which a worker reaches it.
type plant struct {
	*restclient.Client
	ways map[string][]string
}

func newPlant(t *testing.T, dsn string) *plant {
	t.Helper()
	n := startNodeAt(t, dsn)
	return &plant{connect(t, n), map[string][]string{
		"rest":     {"--url", n.url},
		"connect":  {"--url", strings.TrimSuffix(n.url, "/api"), "--protocol", "connect"},
		"database": {"--database-url", dsn},
	}}
}

// fill creates a queue with n tasks. The payload of each is its duration in seconds.
func (p *plant) fill(t *testing.T, meta queue.QueueMeta, n int, seconds string) []*queue.Task {
	t.Helper()
	if _, err := p.CreateQueue(t.Context(), meta); err != nil {
		t.Fatal(err)
	}
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i] = queue.NewTask{Queue: meta.Name, TaskMeta: queue.TaskMeta{Payload: []byte(seconds)}}
	}
	tasks, err := p.CreateTasks(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// released waits until n tasks of a queue are released.
func (p *plant) released(t *testing.T, name string, n int64) {
	t.Helper()
	for over := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s, err := p.QueueStats(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Counts[queue.StatusReleased] >= n {
			return
		}
		if time.Now().After(over) {
			t.Fatalf("%d tasks are not released: %v", n, s.Counts)
		}
	}
}

// hand is a running pgqueue-worker.
type hand struct {
	name string
	cmd  *exec.Cmd
	log  syncBuffer
	// ended closes when the worker has ended.
	ended chan struct{}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startHand starts a worker. Its command records the attempt in a file of the task and then runs for the task's
// duration.
func startHand(t *testing.T, name, dir string, args ...string) *hand {
	t.Helper()
	h := &hand{name: name, ended: make(chan struct{})}
	h.cmd = exec.Command(filepath.Join(programs(t), "pgqueue-worker"), append([]string{
		"--name", name, "--dir", dir, "--exec", `echo $PGQUEUE_TASK_ATTEMPT >>$PGQUEUE_TASK_ID; read -r s; sleep $s`,
	}, args...)...)
	h.cmd.Stderr = &h.log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.ended)
		_ = h.cmd.Wait() // the state has the result
	}()
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill() // fails when it has ended
		<-h.ended
		if t.Failed() {
			t.Logf("%s:\n%s", name, h.log.String())
		}
	})
	return h
}

// stop stops the worker like an operator and returns its exit code.
func (h *hand) stop(t *testing.T) int {
	t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s does not end", h.name)
	}
	return h.cmd.ProcessState.ExitCode()
}

// ran returns the attempts that the commands of a task recorded.
func ran(t *testing.T, dir string, id int64) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, strconv.FormatInt(id, 10)))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// TestWorkersStopUnderLoad stops one of two workers at a time while they work, many times, like deployments. No task
// is lost or runs twice, and no attempt is spent. The role of the server and of the workers has all settings turned.
func TestWorkersStopUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	p := newPlant(t, postgrestest.Turned(t, postgrestest.Empty(t), false))
	for way, args := range p.ways {
		t.Run(way, func(t *testing.T) {
			const n, stops = 320, 6
			tasks := p.fill(t, queue.QueueMeta{Name: way}, n, "0.01")
			dir, serial := t.TempDir(), 0
			start := func() *hand {
				serial++
				return startHand(t, fmt.Sprintf("%s-%d", way, serial), dir, append([]string{"-q", way, "-c", "6"}, args...)...)
			}
			hands := []*hand{start(), start()}
			for i := range stops {
				p.released(t, way, int64((i+1)*n/(stops+2)))
				old := hands[i%2]
				if code := old.stop(t); code != 0 {
					t.Errorf("%s ended with code %d", old.name, code)
				}
				for _, task := range queuetest.Created(t, p, way) {
					if task.Status == queue.StatusRetained && task.Worker == old.name {
						t.Errorf("task %d is still held by %s, which has ended", task.ID, old.name)
					}
				}
				hands[i%2] = start()
			}
			p.released(t, way, n)
			for _, task := range queuetest.Created(t, p, way) {
				if task.Status != queue.StatusReleased || task.Attempt != 1 || task.Retries != queue.DefaultRetries {
					t.Errorf("task %d is %s at attempt %d with %d retries left", task.ID, task.Status, task.Attempt, task.Retries)
				}
			}
			for _, task := range tasks {
				if got := ran(t, dir, task.ID); len(got) != 1 || got[0] != "1" {
					t.Errorf("task %d ran as attempts %q", task.ID, got)
				}
			}
			for _, h := range hands {
				if code := h.stop(t); code != 0 {
					t.Errorf("%s ended with code %d", h.name, code)
				}
			}
		})
	}
}

// TestKilledWorkersTasksAreWorked kills one of two workers while they work. The other one works the held tasks after
// the end of the lease, and no other task runs twice. The test logs the duration, which should be less than the lease
// and 2 s.
func TestKilledWorkersTasksAreWorked(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	p := newPlant(t, postgrestest.Empty(t))
	for way, args := range p.ways {
		t.Run(way, func(t *testing.T) {
			const n, slots, lease = 200, 8, time.Second
			tasks := p.fill(t, queue.QueueMeta{Name: way, Lease: new(lease), RetryDelay: new(time.Duration)}, n, "0.05")
			dir := t.TempDir()
			args := append([]string{"-q", way, "-c", strconv.Itoa(slots)}, args...)
			victim := startHand(t, way+"-victim", dir, args...)
			startHand(t, way+"-other", dir, args...)
			p.released(t, way, n/2)
			if err := victim.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			killed := time.Now()
			<-victim.ended
			p.released(t, way, n)
			again, slowest := 0, time.Duration(0)
			for _, task := range tasks {
				task, err := p.GetTask(t.Context(), task.ID)
				if err != nil {
					t.Fatal(err)
				}
				runs := ran(t, dir, task.ID)
				switch task.Attempt {
				case 1:
					if len(runs) != 1 {
						t.Errorf("task %d ran as attempts %q", task.ID, runs)
					}
				case 2:
					again++
					slowest = max(slowest, task.StartedAt.Sub(killed))
					if len(task.Errors) != 1 || !strings.Contains(string(task.Errors[0].Error), "lease expired") {
						t.Errorf("task %d failed before with %+v", task.ID, task.Errors)
					}
					if runs[len(runs)-1] != "2" || task.Worker != way+"-other" {
						t.Errorf("task %d ran as attempts %q, the last by %s", task.ID, runs, task.Worker)
					}
				default:
					t.Errorf("task %d is at attempt %d", task.ID, task.Attempt)
				}
			}
			if again == 0 {
				t.Error("the victim held nothing when it was killed")
			}
			t.Logf("%d tasks were held; the last was started again %v after the kill, with a lease of %v", again, slowest, lease)
		})
	}
}
