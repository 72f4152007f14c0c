package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// slowConn is a connection with a reader that takes a few kilobytes at a time, like a client over a bad line.
type slowConn struct{ net.Conn }

// The pace of a slowConn is at most 1.6 MB/s; the client reads 4 KiB at once, which makes half of it.
const (
	slowRead  = 8 << 10
	slowEvery = 5 * time.Millisecond
)

func (c slowConn) Read(p []byte) (int, error) {
	time.Sleep(slowEvery)
	return c.Conn.Read(p[:min(len(p), slowRead)])
}

// dialSlowly returns a client of n over a protocol, with a connection of its own that reads slowly.
func dialSlowly(t *testing.T, n *node, p connectclient.Protocol) *connectclient.Client {
	t.Helper()
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			// A small buffer, so that the server has to wait for the reader.
			return slowConn{conn}, conn.(*net.TCPConn).SetReadBuffer(8 * slowRead)
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	c, err := connectclient.New(strings.TrimSuffix(n.url, "/api"), connectclient.WithProtocol(p), connectclient.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestSlowReadersOfLargeTasks: many readers over Connect and gRPC retain tasks of 1 MB and read them slowly. The server stays far
// below 512 MiB, each task is delivered at its first attempt, and none is lost. PGQUEUE_TEST_FULL has 100 readers and 600 tasks.
func TestSlowReadersOfLargeTasks(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	t.Parallel() // its readers mostly wait
	readers, tasks := 8, 24
	if os.Getenv("PGQUEUE_TEST_FULL") != "" {
		readers, tasks = 100, 600
	}
	n := startNodeAt(t, postgrestest.URL(t))
	svc := dialWith(t, n, "rest", "")
	if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: "large", Lease: new(10 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	payload := []byte(`"` + strings.Repeat("x", 1_000_000) + `"`)
	for range tasks {
		if _, err := svc.CreateTask(t.Context(), "large", queue.TaskMeta{Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}

	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range readers {
		protocol := []connectclient.Protocol{connectclient.Connect, connectclient.GRPC}[i%2]
		c := dialSlowly(t, n, protocol)
		all.Go(func() {
			if err := workLargeTasks(ctx, c, fmt.Sprint("reader-", i)); err != nil {
				t.Errorf("reader %d over %v: %v", i, protocol, err)
			}
		})
	}
	all.Wait()

	stats, err := svc.QueueStats(t.Context(), "large")
	if err != nil || stats.Counts[queue.StatusReleased] != int64(tasks) {
		t.Errorf("the tasks end as %+v, %v; want %d released", stats, err, tasks)
	}
	for cursor := ""; ; {
		page, err := svc.ListTasks(t.Context(), queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "large"}, Page: queue.Page{Cursor: cursor}})
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range page.Tasks {
			if task.Attempt != 1 {
				t.Errorf("task %d took %d attempts", task.ID, task.Attempt)
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}

	const most = 512 << 10 // kB
	peak := peakMemory(t, n.cmd.Process.Pid)
	t.Logf("%d tasks of 1 MB through %d readers in %v; the server took %d MiB at most", tasks, readers, time.Since(begin), peak>>10)
	if peak > most {
		t.Errorf("the server took %d kB, want at most %d", peak, most)
	}
}

// workLargeTasks retains and releases tasks until none is left.
func workLargeTasks(ctx context.Context, c *connectclient.Client, name string) error {
	for {
		held, err := c.RetainTasks(ctx, queue.RetainRequest{Worker: name, Queues: []string{"large"}, Limit: 20, Wait: time.Second})
		if err != nil {
			return fmt.Errorf("retain: %w", err)
		}
		var releases []queue.Release
		for _, task := range held {
			if len(task.Payload) < 1_000_000 {
				return fmt.Errorf("task %d has %d bytes", task.ID, len(task.Payload))
			}
			releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
		}
		if len(held) > 0 {
			if _, err := c.ReleaseTasks(ctx, releases); err != nil {
				return fmt.Errorf("release: %w", err)
			}
			continue
		}

		stats, err := c.QueueStats(ctx, "large")
		if err != nil {
			return fmt.Errorf("stats: %w", err)
		}
		if stats.Counts[queue.StatusNew]+stats.Counts[queue.StatusRetained] == 0 {
			return nil
		}
	}
}

// peakMemory returns the largest resident memory of a process, in kB.
func peakMemory(t *testing.T, pid int) (kB int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(rest, &kB); !ok || err != nil {
		t.Fatalf("%s has no peak, %v", status, err)
	}
	return kB
}
