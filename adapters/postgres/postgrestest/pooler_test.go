package postgrestest_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// startPooler starts a pgbouncer in transaction mode before the server of dsn. It returns a function that leads a
// connection string to that server through it.
func startPooler(t *testing.T, dsn string) func(dsn string) string {
	t.Helper()
	needsDatabase(t)
	exe := queuetest.FindTools(t, "pgbouncer")[0]
	server, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir, err := os.MkdirTemp("", "pgqueue-pooler-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// No start-up parameter is forgiven, and few connections are shared by many.
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s password='%s'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 2000
logfile = %s
`, server.Host, server.Port, server.User, server.Password, port, filepath.Join(dir, "log"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-q", config)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	if os.Geteuid() == 0 { // it refuses to be root
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		for _, path := range []string{dir, config} {
			if err := os.Chown(path, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		cmd.Dir = dir
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	waitFor(t, func() (bool, string) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false, err.Error()
		}
		c.Close()
		return true, ""
	})
	return func(dsn string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = address
		return u.String()
	}
}

// TestPoolerSuite holds a store behind a transaction pooler to the same contract.
func TestPoolerSuite(t *testing.T) {
	runPoolerSuite(t, startPooler(t, postgrestest.URL(t)))
}

// TestPoolerSuiteTurned holds it to the contract where the role of the pooler turns every setting. The store states none
// of them there, so the limits that end calls early stay at their defaults.
func TestPoolerSuiteTurned(t *testing.T) {
	if !sized(t, false, true) {
		return
	}
	runPoolerSuite(t, startPooler(t, postgrestest.Turned(t, postgrestest.URL(t), true)))
}

// runPoolerSuite runs the suite of stores and the model through a pooler.
func runPoolerSuite(t *testing.T, through func(dsn string) string) {
	t.Helper()
	var urls sync.Map
	at := func(t testing.TB, dsn string) *postgres.Store {
		s := postgrestest.OpenURL(t, through(dsn), postgres.WithPooler(), postgres.WithListenURL(dsn))
		urls.Store(queue.Store(s), dsn)
		return s
	}
	h := queuetest.StoreHarness{
		New: func(t testing.TB) queue.Store { return at(t, postgrestest.URL(t)) },
		Advance: func(t testing.TB, s queue.Store, d time.Duration) {
			t.Helper()
			dsn, _ := urls.Load(s)
			postgrestest.AdvanceURL(t, dsn.(string), d)
		},
		Peer: func(t testing.TB, s queue.Store) queue.Store {
			t.Helper()
			dsn, _ := urls.Load(s)
			return at(t, dsn.(string))
		},
		Features: harness().Features,
	}
	queuetest.TestStore(t, h)
	t.Run("the model", func(t *testing.T) { queuetest.Model(t, h, sized(t, 300, 3_000), 1) })
}

// TestPooler is what a pooler in transaction mode is known to break.
func TestPooler(t *testing.T) {
	t.Parallel()
	through := startPooler(t, postgrestest.URL(t))
	t.Run("a waiting retain starts by a hint that came by the direct connection string", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		a := open(t, through(dsn), postgres.WithPooler(), postgres.WithListenURL(dsn))
		b := open(t, through(dsn), postgres.WithPooler(), postgres.WithListenURL(dsn))
		makeQueue(t, a, "tests", "mail")
		w := await(t, b, rarely)
		listens(t, b)
		w.idle(t)
		makeTask(t, a, "tests", "mail")
		w.gets(t)
	})
	t.Run("without one tasks are found by polling", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		a, b := open(t, through(dsn), postgres.WithPooler()), open(t, through(dsn), postgres.WithPooler())
		makeQueue(t, a, "tests", "mail")
		w := await(t, b, 100*time.Millisecond)
		for range 5 {
			makeTask(t, a, "tests", "mail")
			w.gets(t)
		}
	})
	t.Run("no setting of a connection stays on the server's, and none is prepared by name", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s := open(t, through(dsn), postgres.WithPooler())
		makeQueue(t, s, "tests", "mail")
		makeTask(t, s, "tests", "mail")
		if _, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}}); err != nil {
			t.Fatal(err)
		}
		var changed, prepared int
		err := s.Pool().QueryRow(t.Context(), `select (select count(*) from pg_settings where source = 'session' and name not in ('client_encoding', 'application_name')),
			(select count(*) from pg_prepared_statements where name <> '')`).Scan(&changed, &prepared)
		if err != nil {
			t.Fatal(err)
		}
		if changed != 0 || prepared != 0 {
			t.Errorf("%d settings of the session are changed, %d statements are prepared by name", changed, prepared)
		}
	})
	t.Run("JSON comes back byte by byte, for one and for many", func(t *testing.T) {
		t.Parallel()
		dsn := postgrestest.URL(t)
		s := open(t, through(dsn), postgres.WithPooler())
		makeQueue(t, s, "tests", "mail")
		odd := []byte(`{ "b":1e400, "a": 12345678901234567890123, "a":"\u0000", "c":[ ] }`)
		for _, n := range []int{1, 5, 300} { // inserted, inserted as arrays, copied
			c := queue.Create{Namespace: "tests", Atomic: true}
			for range n {
				c.Tasks = append(c.Tasks, queue.NewTask{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: odd, Headers: map[string]string{"k": `"v\`}}})
			}
			if _, err := s.CreateTasks(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			out, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: "tests", Requests: []queue.RetainShare{{Worker: "w", Limit: n}}})
			if err != nil || len(out[0]) != n {
				t.Fatalf("%d of %d, %v", len(out[0]), n, err)
			}
			var releases []queue.Release
			for _, task := range out[0] {
				if string(task.Payload) != string(odd) || task.Headers["k"] != `"v\` {
					t.Fatalf("payload %s, headers %v", task.Payload, task.Headers)
				}
				releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess, Result: odd, Quiet: true})
			}
			if _, err := s.ReleaseTasks(t.Context(), "tests", releases); err != nil {
				t.Fatal(err)
			}
			back, err := s.GetTasks(t.Context(), "tests", []int64{releases[n-1].ID}, false)
			if err != nil || len(back) != 1 || string(back[0].Result) != string(odd) {
				t.Fatalf("%v, %v", back, err)
			}
		}
	})
}
