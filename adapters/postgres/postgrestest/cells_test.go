package postgrestest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/cells"
	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// makeCell makes the schema at a URL the cell with the given id, and puts it into the directory.
func makeCell(t testing.TB, directory queue.CellDirectory, id int, url string) {
	t.Helper()
	s := postgrestest.OpenURL(t, url)
	server, err := s.MakeHome(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	err = directory.AddCell(t.Context(), queue.Cell{ID: id, Schema: postgres.DefaultSchema, URL: url, Home: server, State: queue.CellOpen})
	if err != nil {
		t.Fatal(err)
	}
}

// makeCells makes three databases of one PostgreSQL three cells, with the directory in cell 0.
func makeCells(t testing.TB) (urls []string) {
	t.Helper()
	for range 3 {
		urls = append(urls, postgrestest.URL(t))
	}
	directory := postgrestest.OpenURL(t, urls[0])
	for id, url := range urls {
		makeCell(t, directory, id, url)
	}
	return urls
}

// openCells opens a Store over the cells of the directory at a URL.
func openCells(t testing.TB, url string) *cells.Store {
	t.Helper()
	directory := postgrestest.OpenURL(t, url)
	s, err := cells.New(t.Context(), directory, func(ctx context.Context, c queue.Cell) (queue.Store, error) { return postgres.OpenCell(ctx, c) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func cellsHarness() queuetest.StoreHarness {
	var all sync.Map
	find := func(t testing.TB, s queue.Store) []string {
		t.Helper()
		urls, ok := all.Load(s)
		if !ok {
			t.Fatal("not a store of this harness")
		}
		return urls.([]string)
	}
	return queuetest.StoreHarness{
		New: func(t testing.TB) queue.Store {
			urls := makeCells(t)
			s := openCells(t, urls[0])
			all.Store(queue.Store(s), urls)
			return s
		},
		Advance: func(t testing.TB, s queue.Store, d time.Duration) {
			t.Helper()
			for _, url := range find(t, s) {
				postgrestest.AdvanceURL(t, url, d)
			}
		},
		Peer:     func(t testing.TB, s queue.Store) queue.Store { t.Helper(); return openCells(t, find(t, s)[0]) },
		Features: harness().Features,
	}
}

// TestCellsStore holds three databases of one PostgreSQL to the contract of one Store, in the long form.
func TestCellsStore(t *testing.T) {
	needsDatabase(t)
	if !sized(t, false, true) {
		t.Skip("the suite of TestStore again: the long form runs it; TestCellsModel is its slice")
	}
	queuetest.TestStore(t, cellsHarness())
}

// TestCellsModel makes random operations on three databases of one PostgreSQL.
func TestCellsModel(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	queuetest.Model(t, cellsHarness(), sized(t, 400, 3_000), 1)
}

// fillCells creates a queue with a task in each of n namespaces, and returns the namespaces by cell.
func fillCells(t *testing.T, s *cells.Store, n int) map[int][]string {
	t.Helper()
	byCell := map[int][]string{}
	for i := range n {
		namespace := fmt.Sprintf("team%d", i)
		makeQueue(t, s, namespace, "mail")
		made, err := s.CreateTasks(t.Context(), queue.Create{Namespace: namespace, Atomic: true, Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON}}}})
		if err != nil {
			t.Fatal(err)
		}
		cell := queue.CellOfID(made[0].Task.ID)
		byCell[cell] = append(byCell[cell], namespace)
	}
	return byCell
}

// TestCellIDs: ids and tokens show their cell, and partitions are made ahead of them.
func TestCellIDs(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	urls := makeCells(t)
	s := openCells(t, urls[0])
	byCell := fillCells(t, s, 30)
	for id, url := range urls {
		conn := connect(t, url)
		if n := value[int](t, conn, "select count(*) from pgqueue.task"); n != len(byCell[id]) || n == 0 {
			t.Errorf("cell %d has %d tasks, want %d", id, n, len(byCell[id]))
		}
		if least := value[int64](t, conn, "select min(lower) from pgqueue.part"); least != queue.FirstID(id)+1 {
			t.Errorf("the partitions of cell %d begin at %d", id, least)
		}
	}

	tasks, err := s.RetainTasks(t.Context(), queue.Retain{Namespace: byCell[2][0], Queues: []string{"mail"}, Requests: []queue.RetainShare{{Worker: "w", Limit: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if task := tasks[0][0]; queue.CellOfID(task.ID) != 2 || queue.CellOfID(task.Lease.Token) != 2 || task.ID >= 1<<53 {
		t.Errorf("task %d, token %d", task.ID, task.Lease.Token)
	}

	second := postgrestest.OpenURL(t, urls[2])
	if _, err := second.MakeHome(t.Context(), 1); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("cell 2 becomes cell 1: %v", err)
	}
	used := postgrestest.Open(t)
	makeQueue(t, used, "tests", "mail")
	makeTask(t, used, "tests", "mail")
	if _, err := used.MakeHome(t.Context(), 3); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("a schema with tasks becomes a further cell: %v", err)
	}
}

// TestCellsRefused: cells that cannot work are refused by name, and lose nothing; the others work.
func TestCellsRefused(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	for _, c := range []struct {
		name, want string
		harm       func(t *testing.T, directory *postgres.Store, url string)
		heal       func(t *testing.T, directory *postgres.Store, url string)
	}{
		{
			"a cell with another schema version", "version",
			func(t *testing.T, _ *postgres.Store, url string) {
				sql(t, connect(t, url), "insert into pgqueue.migration (version, name, checksum, compatible_from) values (999, 'later', '', 999)")
			},
			func(t *testing.T, _ *postgres.Store, url string) {
				sql(t, connect(t, url), "delete from pgqueue.migration where version = 999")
			},
		},
		{
			"a home that cannot be reached", "cell 1",
			func(t *testing.T, directory *postgres.Store, url string) {
				changeCell(t, directory, 1, func(c *queue.Cell) { c.URL = "postgres://nobody@127.0.0.1:1/none?connect_timeout=1" })
			},
			func(t *testing.T, directory *postgres.Store, url string) {
				changeCell(t, directory, 1, func(c *queue.Cell) { c.URL = url })
			},
		},
		{
			"a server that is not the home by the directory", "home",
			func(t *testing.T, directory *postgres.Store, _ string) {
				changeCell(t, directory, 1, func(c *queue.Cell) { c.Home = "12345" })
			},
			func(t *testing.T, directory *postgres.Store, url string) {
				server := value[string](t, connect(t, url), "select server from pgqueue.home")
				changeCell(t, directory, 1, func(c *queue.Cell) { c.Home = server })
			},
		},
		{
			"a server that is not the home by the cell's own record", "home",
			func(t *testing.T, directory *postgres.Store, url string) {
				sql(t, connect(t, url), "update pgqueue.home set server = '12345'")
			},
			func(t *testing.T, directory *postgres.Store, url string) {
				s := postgrestest.OpenURL(t, url)
				if _, err := s.MoveHome(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			"the schema of another cell", "schema is that of cell 2",
			func(t *testing.T, directory *postgres.Store, _ string) {
				d, err := directory.ReadDirectory(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				changeCell(t, directory, 1, func(c *queue.Cell) { c.URL = d.Cells[2].URL })
			},
			func(t *testing.T, directory *postgres.Store, url string) {
				changeCell(t, directory, 1, func(c *queue.Cell) { c.URL = url })
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			urls := makeCells(t)
			before := openCells(t, urls[0])
			byCell := fillCells(t, before, 12)
			before.Close()
			directory := postgrestest.OpenURL(t, urls[0])
			c.harm(t, directory, urls[1])

			s := openCells(t, urls[0])
			for id, namespaces := range byCell {
				for _, namespace := range namespaces {
					err := tryTask(t.Context(), s, namespace)
					if id != 1 && err != nil {
						t.Errorf("cell %d: %v", id, err)
					}
					if id == 1 && (!errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "cell 1") || !strings.Contains(err.Error(), c.want)) {
						t.Errorf("namespace %s of cell 1: %v", namespace, err)
					}
				}
			}

			c.heal(t, directory, urls[1])
			healed := openCells(t, urls[0])
			for _, namespaces := range byCell {
				for _, namespace := range namespaces {
					tasks, err := healed.ListTasks(t.Context(), namespace, queue.TaskQuery{TaskFilter: queue.TaskFilter{Queue: "mail"}, Page: queue.Page{Limit: 10}})
					if err != nil || len(tasks.Tasks) == 0 {
						t.Errorf("namespace %s has %d tasks, %v", namespace, len(tasks.Tasks), err)
					}
				}
			}
		})
	}
}

func changeCell(t *testing.T, directory *postgres.Store, id int, change func(*queue.Cell)) {
	t.Helper()
	d, err := directory.ReadDirectory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := d.Cells[id]
	change(&c)
	if err := directory.UpdateCell(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func tryTask(ctx context.Context, s queue.Store, namespace string) error {
	_, err := s.CreateTasks(ctx, queue.Create{Namespace: namespace, Atomic: true, Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte("{}")}}}})
	return err
}

// TestWriteBesideTheHome: a store with the identity of another server has each connection refused.
func TestWriteBesideTheHome(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	url := postgrestest.URL(t)
	_, err := postgres.Open(t.Context(), url, postgres.WithHome("12345"))
	if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "server 12345") {
		t.Errorf("got %v", err)
	}
}

// TestCellKilled ends the server of one of three cells by SIGKILL under load, and starts it again. The other cells answer each
// call, and the killed one loses nothing that it acknowledged.
func TestCellKilled(t *testing.T) {
	needsDatabase(t)
	data := filepath.Join(t.TempDir(), "data")
	for _, folder := range []string{filepath.Dir(data), filepath.Dir(filepath.Dir(data))} {
		if err := os.Chmod(folder, 0o777); err != nil { // for the user that PostgreSQL runs as
			t.Fatal(err)
		}
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
	lone := open(t, pg.DSN())
	up(t, lone)
	lone.Close()

	urls := []string{postgrestest.URL(t), pg.DSN(), postgrestest.URL(t)}
	directory := postgrestest.OpenURL(t, urls[0])
	for id, url := range urls {
		makeCell(t, directory, id, url)
	}
	s := openCells(t, urls[0])
	spaces := make([]string, 3)
	for id := range spaces {
		spaces[id] = fmt.Sprintf("space%d", id)
		if err := s.Pin(t.Context(), spaces[id], id); err != nil {
			t.Fatal(err)
		}
		makeQueue(t, s, spaces[id], "mail")
	}

	var created, failed, unsure [3]atomic.Int64
	stop, halt := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for id, namespace := range spaces {
		work.Go(func() {
			for stop.Err() == nil {
				switch err := tryTask(t.Context(), s, namespace); {
				case err == nil:
					created[id].Add(1)
				case queue.KindOf(err) == queue.KindIndeterminate:
					unsure[id].Add(1)
				default:
					failed[id].Add(1)
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
		work.Go(func() { // background work goes on in the others
			for stop.Err() == nil {
				_, _ = s.Maintain(t.Context(), queue.ChoreFold)
				time.Sleep(50 * time.Millisecond)
			}
		})
	}

	// The rate of the cells that stay, while all run and while one is down.
	const span = 4 * time.Second
	rate := func() float64 {
		before := created[0].Load() + created[2].Load()
		time.Sleep(span)
		return float64(created[0].Load()+created[2].Load()-before) / span.Seconds()
	}
	time.Sleep(time.Second)
	whole := rate()
	crash(t, pg)
	down := rate()
	ctx, cancel := cleanupContext(t)
	_ = pg.Stop(ctx) // it has ended; this waits for its folder
	cancel()
	pg = launch()
	if pg.DSN() != urls[1] {
		changeCell(t, directory, 1, func(c *queue.Cell) { c.URL = pg.DSN() })
	}
	after := created[1].Load()
	deadline := time.Now().Add(30 * time.Second)
	for created[1].Load() == after {
		if time.Now().After(deadline) {
			t.Fatal("the cell is up again and answers no create")
		}
		time.Sleep(20 * time.Millisecond)
	}
	halt()
	work.Wait()

	for id, namespace := range spaces {
		stats, err := s.QueueStats(t.Context(), namespace, "mail")
		if err != nil {
			t.Fatal(err)
		}
		has, sure := stats[0].Counts[queue.StatusNew], created[id].Load()
		if has < sure || has > sure+unsure[id].Load() {
			t.Errorf("cell %d has %d tasks, acknowledged %d, in doubt %d", id, has, sure, unsure[id].Load())
		}
		if id != 1 && failed[id].Load()+unsure[id].Load() > 0 {
			t.Errorf("cell %d: %d calls failed, %d in doubt", id, failed[id].Load(), unsure[id].Load())
		}
	}
	if failed[1].Load() == 0 {
		t.Error("no call of the killed cell failed")
	}
	t.Logf("creates a second in the cells that stay: %.0f with all, %.0f with one down (%.2f); the killed cell failed %d calls, %d in doubt",
		whole, down, down/whole, failed[1].Load(), unsure[1].Load())
}

// mutedServer is a connection to PostgreSQL that passes nothing on once it is mute: the server accepts and never answers.
type mutedServer struct {
	net.Listener
	mute atomic.Bool
}

func muteServer(t *testing.T, dsn string) (s *mutedServer, url string) {
	t.Helper()
	to, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(to.Host, to.Port)
	s = &mutedServer{}
	if s.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	pass := func(into, from net.Conn) {
		defer into.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if s.mute.Load() {
				continue
			}
			if _, err := into.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	conns.Go(func() {
		for {
			near, err := s.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer near.Close()
				stop := context.AfterFunc(ctx, func() { _ = near.Close() })
				defer stop()
				far, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if err != nil {
					return
				}
				conns.Go(func() { pass(near, far) })
				pass(far, near)
			})
		}
	})
	t.Cleanup(func() { _ = s.Close(); cancel(); conns.Wait() })

	port := s.Addr().(*net.TCPAddr).Port
	return s, fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=disable", port, to.User, to.Password, to.Database)
}

// TestCellSilent: the server of one of three cells accepts connections and answers nothing any more. What all cells do goes on
// with the two others within its time, and names the silent one.
func TestCellSilent(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	urls := makeCells(t)
	silent, throughSilent := muteServer(t, urls[1])
	directory := postgrestest.OpenURL(t, urls[0])
	s, err := cells.New(t.Context(), directory, func(ctx context.Context, c queue.Cell) (queue.Store, error) {
		if c.ID == 1 {
			c.URL = throughSilent
		}
		return postgres.OpenCell(ctx, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	byCell := fillCells(t, s, 30)

	silent.mute.Store(true)
	within := func(name string, call func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := call(ctx); err != nil || ctx.Err() != nil {
			t.Errorf("%s: %v, its context: %v", name, err, ctx.Err())
		}
	}
	within("namespaces", func(ctx context.Context) error {
		names, err := s.ListNamespaces(ctx)
		if err == nil && len(names) < 30 {
			err = fmt.Errorf("%d namespaces", len(names))
		}
		return err
	})
	within("statistics", func(ctx context.Context) error {
		stats, err := s.AllQueueStats(ctx)
		if err == nil && len(stats) != 30-len(byCell[1]) {
			err = fmt.Errorf("statistics of %d queues", len(stats))
		}
		return err
	})
	within("diagnosis", func(ctx context.Context) error {
		found, err := s.Diagnose(ctx)
		if err == nil && !slices.ContainsFunc(found, func(f queue.Finding) bool { return f.Name == "cell 1" && f.Level == queue.LevelFail }) {
			err = fmt.Errorf("findings %+v", found)
		}
		return err
	})
	within("cells", func(ctx context.Context) error {
		list, err := s.ListCells(ctx)
		if err == nil && (list[0].Err != nil || list[1].Err == nil || list[2].Err != nil) {
			err = fmt.Errorf("cells %+v", list)
		}
		return err
	})
	within("background work", func(ctx context.Context) error {
		done, err := s.Maintain(ctx, queue.ChoreFold)
		if err == nil && (len(done.Faults) != 1 || done.Faults[0].Subject != "cell 1") {
			err = fmt.Errorf("faults %+v", done.Faults)
		}
		return err
	})
	within("a task of another cell", func(ctx context.Context) error { return tryTask(ctx, s, byCell[2][0]) })
}
