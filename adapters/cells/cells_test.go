package cells_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/adapters/cells"
	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// maxEvents bounds the feed of each cell: small, so that a test can fill it.
const maxEvents = 2_000

// three is a Store over three cells in memory, with a clock that all of them share.
type three struct {
	*cells.Store
	directory *cells.Memory
	clock     *clock
	stores    [3]*memory.Store
	isDown    [3]atomic.Bool
}

// clock runs by jumps, or by the time of the machine and jumps.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	ahead time.Duration
	runs  bool
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs {
		return time.Now().Add(c.ahead)
	}
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.ahead += d
}

var errDown = &queue.Error{Kind: queue.KindUnavailable, Msg: "connection refused"}

func newThree(t testing.TB, runs bool) *three {
	t.Helper()
	c := &three{clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), runs: runs}, directory: cells.NewMemory()}
	for id := range c.stores {
		c.stores[id] = memory.New(memory.WithClock(c.clock.Now), memory.WithMaxEvents(maxEvents), memory.WithFirstID(queue.FirstID(id)))
		if err := c.directory.AddCell(t.Context(), queue.Cell{ID: id, Schema: "pgqueue", State: queue.CellOpen}); err != nil {
			t.Fatal(err)
		}
	}

	c.Store = c.open(t)
	return c
}

// open opens a Store over the same cells, as another process does.
func (c *three) open(t testing.TB) *cells.Store {
	t.Helper()
	s, err := cells.New(t.Context(), c.directory, func(_ context.Context, cell queue.Cell) (queue.Store, error) {
		if c.isDown[cell.ID].Load() {
			return nil, errDown
		}
		return queuetest.NewFaulty(c.stores[cell.ID]), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func harness() queuetest.StoreHarness {
	var all sync.Map
	return queuetest.StoreHarness{
		New: func(t testing.TB) queue.Store {
			c := newThree(t, false)
			all.Store(queue.Store(c.Store), c)
			return c.Store
		},
		Advance: func(t testing.TB, s queue.Store, d time.Duration) {
			t.Helper()
			c, ok := all.Load(s)
			if !ok {
				t.Fatal("not a store of this harness")
			}
			c.(*three).clock.Advance(d)
		},
		Shared: func(t testing.TB, s queue.Store, namespace string) queue.Service {
			t.Helper()
			m, err := manager.New(s, manager.WithNamespace(namespace))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close(context.WithoutCancel(t.Context())) })
			return m
		},
		Features: queuetest.Features{Listener: true, StatsLister: true, Diagnoser: true, MaxEvents: maxEvents},
	}
}

// TestStore holds three cells in memory to the contract of one Store.
func TestStore(t *testing.T) { queuetest.TestStore(t, harness()) }

// TestModel makes 6,000 random operations on three cells in memory.
func TestModel(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { queuetest.Model(t, harness(), 3_000, seed) })
	}
}

// TestService holds the manager over three cells in memory to the contract.
func TestService(t *testing.T) {
	var all sync.Map
	find := func(s queue.Service) *three {
		c, ok := all.Load(s)
		if !ok {
			t.Fatal("not a service of this harness")
		}
		return c.(*three)
	}
	queuetest.TestService(t, queuetest.ServiceHarness{
		New: func(t testing.TB) queue.Service {
			c := newThree(t, true)
			m, err := manager.New(c.Store)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			all.Store(queue.Service(m), c)
			return m
		},
		Advance: func(_ testing.TB, s queue.Service, d time.Duration) { find(s).clock.Advance(d) },
		Chores:  func(t testing.TB, s queue.Service) { queuetest.Chores(t, find(s).Store) },
	})
}

// fill creates a queue with a task in each of many namespaces, and returns the namespaces by cell.
func fill(t *testing.T, c *three, s *cells.Store, from, n int) (byCell [3][]string) {
	t.Helper()
	for i := range n {
		namespace := fmt.Sprintf("team%d", from+i)
		q, err := queue.NewQueue(namespace, queue.QueueMeta{Name: "mail"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateQueue(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		d, err := c.directory.ReadDirectory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		byCell[d.Places[namespace]] = append(byCell[d.Places[namespace]], namespace)
		create(t, s, namespace)
	}
	return byCell
}

func create(t *testing.T, s queue.Store, namespace string) {
	t.Helper()
	if err := tryCreate(t.Context(), s, namespace); err != nil {
		t.Fatal(err)
	}
}

func tryCreate(ctx context.Context, s queue.Store, namespace string) error {
	_, err := s.CreateTasks(ctx, queue.Create{Namespace: namespace, Atomic: true, Tasks: []queue.NewTask{{Queue: "mail", TaskMeta: queue.TaskMeta{Payload: []byte("{}")}}}})
	return err
}

func TestNamespacesSpread(t *testing.T) {
	c := newThree(t, false)
	byCell := fill(t, c, c.Store, 0, 90)
	for id, namespaces := range byCell {
		if len(namespaces) < 15 {
			t.Errorf("cell %d has %d of 90 namespaces", id, len(namespaces))
		}
		for _, namespace := range namespaces {
			for other, store := range c.stores {
				_, err := store.GetQueue(t.Context(), namespace, "mail")
				if (err == nil) != (other == id) {
					t.Errorf("namespace %s of cell %d, seen in cell %d: %v", namespace, id, other, err)
				}
			}
		}
	}

	names, err := c.ListNamespaces(t.Context())
	if err != nil || len(names) != 91 { // the system's own is among them
		t.Errorf("%d namespaces, %v", len(names), err)
	}
	stats, err := c.AllQueueStats(t.Context())
	if err != nil || len(stats) != 90 {
		t.Errorf("statistics of %d queues, %v", len(stats), err)
	}
	t.Logf("90 namespaces: %d, %d, %d", len(byCell[0]), len(byCell[1]), len(byCell[2]))
}

func TestACellThatIsDown(t *testing.T) {
	c := newThree(t, false)
	byCell := fill(t, c, c.Store, 0, 30)

	c.isDown[1].Store(true)
	s := c.open(t) // starts beside the cell that is down
	for id, namespaces := range byCell {
		for _, namespace := range namespaces {
			err := tryCreate(t.Context(), s, namespace)
			if id != 1 && err != nil {
				t.Errorf("cell %d: %v", id, err)
			}
			if id == 1 && (!errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "cell 1")) {
				t.Errorf("cell 1: %v", err)
			}
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("the whole does not answer: %v", err)
	}

	list, err := s.ListCells(t.Context())
	if err != nil || len(list) != 3 || list[0].Err != nil || list[1].Err == nil || list[2].Err != nil || list[1].Namespaces != len(byCell[1]) {
		t.Errorf("cells: %+v, %v", list, err)
	}
	names, err := s.ListNamespaces(t.Context())
	if err != nil || len(names) != 31 {
		t.Errorf("%d namespaces, %v", len(names), err)
	}
	stats, err := s.AllQueueStats(t.Context())
	if err != nil || len(stats) != 30-len(byCell[1]) {
		t.Errorf("statistics of %d queues, %v", len(stats), err)
	}
	done, err := s.Maintain(t.Context(), queue.ChoreFold)
	if err != nil || len(done.Faults) != 1 || done.Faults[0].Subject != "cell 1" {
		t.Errorf("a step: %+v, %v", done.Faults, err)
	}
	found, err := s.Diagnose(t.Context())
	if err != nil || !hasFinding(found, "cell 1", queue.LevelFail) {
		t.Errorf("findings: %+v, %v", found, err)
	}

	c.isDown[1].Store(false)
	deadline := time.Now().Add(10 * time.Second)
	for tryCreate(t.Context(), s, byCell[1][0]) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the cell is up and stays unavailable")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func hasFinding(all []queue.Finding, name string, level queue.Level) bool {
	for _, f := range all {
		if f.Name == name && f.Level == level {
			return true
		}
	}
	return false
}

func TestCellZeroMustAnswer(t *testing.T) {
	c := newThree(t, false)
	c.isDown[0].Store(true)
	_, err := cells.New(t.Context(), c.directory, func(context.Context, queue.Cell) (queue.Store, error) { return nil, errDown })
	if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "cell 0") {
		t.Errorf("got %v", err)
	}
	_, err = cells.New(t.Context(), cells.NewMemory(queue.Cell{ID: 1, State: queue.CellOpen}), nil)
	if !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("without cell 0: %v", err)
	}
	if _, err := cells.NewListed([]queue.Cell{{ID: 1, State: queue.CellOpen}, {ID: 1, State: queue.CellOpen}}, c.directory); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("a cell twice: %v", err)
	}
}

func TestANamespaceInTwoCells(t *testing.T) {
	c := newThree(t, false)
	q, err := queue.NewQueue("twice", queue.QueueMeta{Name: "mail"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []int{0, 2} {
		if _, err := c.stores[id].CreateQueue(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		create(t, c.stores[id], "twice")
	}

	s := c.open(t)
	err = tryCreate(t.Context(), s, "twice")
	if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "namespace twice") || !strings.Contains(err.Error(), "cell 0") || !strings.Contains(err.Error(), "cell 2") {
		t.Errorf("got %v", err)
	}
	for _, id := range []int{0, 2} { // nothing is lost
		tasks, err := c.stores[id].ListTasks(t.Context(), "twice", queue.TaskQuery{Page: queue.Page{Limit: 10}})
		if err != nil || len(tasks.Tasks) != 1 {
			t.Errorf("cell %d: %d tasks, %v", id, len(tasks.Tasks), err)
		}
	}
	found, err := s.Diagnose(t.Context())
	if err != nil || !hasFinding(found, "namespace twice", queue.LevelFail) {
		t.Errorf("findings: %+v, %v", found, err)
	}
	fill(t, c, s, 100, 1) // others work
}

func TestPin(t *testing.T) {
	c := newThree(t, false)
	for id := range 3 {
		namespace := fmt.Sprintf("pinned%d", id)
		if err := c.Pin(t.Context(), namespace, (id+1)%3); err != nil {
			t.Fatal(err)
		}
		if err := c.Pin(t.Context(), namespace, id); err != nil { // it is empty, so it may go elsewhere
			t.Fatal(err)
		}
		q, err := queue.NewQueue(namespace, queue.QueueMeta{Name: "mail"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateQueue(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		if _, err := c.stores[id].GetQueue(t.Context(), namespace, "mail"); err != nil {
			t.Errorf("namespace %s: %v", namespace, err)
		}
		if err := c.Pin(t.Context(), namespace, (id+1)%3); !errors.Is(err, queue.ErrConflict) {
			t.Errorf("a namespace with a queue changes its cell: %v", err)
		}
	}
	if err := c.Pin(t.Context(), "x", 7); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("an unknown cell: %v", err)
	}
}

func TestAFurtherCellKeepsPlaces(t *testing.T) {
	c := newThree(t, false)
	before := fill(t, c, c.Store, 0, 30)
	if err := c.directory.AddCell(t.Context(), queue.Cell{ID: 3, State: queue.CellOpen}); err != nil {
		t.Fatal(err)
	}
	s := c.openWith(t, memory.New())
	for id, namespaces := range before {
		for _, namespace := range namespaces {
			if _, err := s.GetQueue(t.Context(), namespace, "mail"); err != nil {
				t.Errorf("namespace %s of cell %d: %v", namespace, id, err)
			}
		}
	}
}

// openWith is open with one more cell.
func (c *three) openWith(t *testing.T, further queue.Store) *cells.Store {
	t.Helper()
	s, err := cells.New(t.Context(), c.directory, func(_ context.Context, cell queue.Cell) (queue.Store, error) {
		if cell.ID == 3 {
			return further, nil
		}
		return c.stores[cell.ID], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// callsOfAll are all calls that ask each cell, with what each of them answers beside a cell 1 that does not.
func callsOfAll(byCell [3][]string) map[string]func(ctx context.Context, s *cells.Store) error {
	calls := map[string]func(ctx context.Context, s *cells.Store) error{
		"Ping": func(ctx context.Context, s *cells.Store) error { return s.Ping(ctx) },
		"ListCells": func(ctx context.Context, s *cells.Store) error {
			list, err := s.ListCells(ctx)
			if err != nil || len(list) != 3 || list[0].Err != nil || list[2].Err != nil {
				return fmt.Errorf("cells %+v, %w", list, errors.Join(err, errDown))
			}
			return named(list[1].Err)
		},
		"ListNamespaces": func(ctx context.Context, s *cells.Store) error {
			names, err := s.ListNamespaces(ctx)
			if err == nil && len(names) != 31 {
				err = fmt.Errorf("%d namespaces", len(names))
			}
			return err
		},
		"AllQueueStats": func(ctx context.Context, s *cells.Store) error {
			stats, err := s.AllQueueStats(ctx)
			if err == nil && len(stats) != 30-len(byCell[1]) {
				err = fmt.Errorf("statistics of %d queues", len(stats))
			}
			return err
		},
		"Diagnose": func(ctx context.Context, s *cells.Store) error {
			found, err := s.Diagnose(ctx)
			if err == nil && !hasFinding(found, "cell 1", queue.LevelFail) {
				err = fmt.Errorf("findings %+v", found)
			}
			return err
		},
		"a task of another cell": func(ctx context.Context, s *cells.Store) error {
			return errors.Join(tryCreate(ctx, s, byCell[0][0]), tryCreate(ctx, s, byCell[2][0]))
		},
	}
	for _, chore := range queue.Chores() {
		calls["Maintain "+string(chore)] = func(ctx context.Context, s *cells.Store) error {
			done, err := s.Maintain(ctx, chore)
			if err == nil && (len(done.Faults) != 1 || done.Faults[0].Subject != "cell 1") {
				err = fmt.Errorf("faults %+v", done.Faults)
			}
			return err
		}
	}
	return calls
}

// named returns an error unless err is of cell 1, and says that the cell is unavailable.
func named(err error) error {
	if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "cell 1") {
		return fmt.Errorf("the error of the cell is %w", errors.Join(err, errDown))
	}
	return nil
}

// TestACellThatHangs: a server that accepts and never answers keeps no call over all cells from the answers of the others.
func TestACellThatHangs(t *testing.T) {
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	// dial waits for the first byte of a server until ctx ends.
	dial := func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", silent.Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
		defer stop()
		_, err = conn.Read(make([]byte, 1))
		return errors.Join(ctx.Err(), err)
	}

	for _, from := range []string{"at its opening", "once it is open"} {
		c := newThree(t, false)
		byCell := fill(t, c, c.Store, 0, 30)
		for name, call := range callsOfAll(byCell) {
			t.Run(from+"/"+name, func(t *testing.T) {
				t.Parallel()
				hangs := queuetest.NewFaulty(c.stores[1])
				open := make(chan struct{})
				s, err := cells.New(t.Context(), c.directory, func(ctx context.Context, cell queue.Cell) (queue.Store, error) {
					switch {
					case cell.ID != 1:
						return queuetest.NewFaulty(c.stores[cell.ID]), nil
					case from == "once it is open":
						return hangingStore{hangs}, nil
					}
					select {
					case <-open: // it was there at the start
						return nil, dial(ctx)
					default:
						close(open)
						return nil, errDown
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				hangs.Set("", queuetest.Fault{Hang: true})

				for range 2 {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					if err := call(ctx, s); err != nil {
						t.Error(err)
					}
					if ctx.Err() != nil {
						t.Error("the call took all of its time")
					}
					cancel()
				}
			})
		}
	}
}

// TestADirectoryThatHangs: while the directory is silent, calls go on with its last state.
func TestADirectoryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newThree(t, false)
		byCell := fill(t, c, c.Store, 0, 30)
		directory := &hangingDirectory{CellDirectory: c.directory}
		s, err := cells.New(t.Context(), directory, func(_ context.Context, cell queue.Cell) (queue.Store, error) { return c.stores[cell.ID], nil })
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()

		directory.hangs.Store(true)
		time.Sleep(1100 * time.Millisecond) // the age at which the directory is read again
		for _, namespaces := range byCell {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if err := tryCreate(ctx, s, namespaces[0]); err != nil {
				t.Error(err)
			}
			q, err := queue.NewQueue(namespaces[0], queue.QueueMeta{Name: "further"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.CreateQueue(ctx, q); err != nil {
				t.Error(err)
			}
			cancel()
		}
	})
}

// hangingStore also hangs in the statistics, which the faults of a Faulty leave out.
type hangingStore struct{ *queuetest.Faulty }

func (s hangingStore) AllQueueStats(ctx context.Context) ([]*queue.QueueStats, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type hangingDirectory struct {
	queue.CellDirectory
	hangs atomic.Bool
}

func (d *hangingDirectory) wait(ctx context.Context) error {
	if d.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (d *hangingDirectory) ReadDirectory(ctx context.Context) (queue.Directory, error) {
	if err := d.wait(ctx); err != nil {
		return queue.Directory{}, err
	}
	return d.CellDirectory.ReadDirectory(ctx)
}

func (d *hangingDirectory) PlaceNamespace(ctx context.Context, namespace string, cell int) (int, error) {
	if err := d.wait(ctx); err != nil {
		return 0, err
	}
	return d.CellDirectory.PlaceNamespace(ctx, namespace, cell)
}

// TestAShortCallHarmsNoOther: the deadline of one caller ends the wait of that caller alone, not the opening of a cell.
func TestAShortCallHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newThree(t, false)
		byCell := fill(t, c, c.Store, 0, 30)
		c.isDown[1].Store(true)
		goOn := make(chan struct{})
		s, err := cells.New(t.Context(), c.directory, func(ctx context.Context, cell queue.Cell) (queue.Store, error) {
			if cell.ID == 1 {
				if c.isDown[1].Load() {
					return nil, errDown
				}
				select {
				case <-goOn:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return c.stores[cell.ID], nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()

		c.isDown[1].Store(false)
		time.Sleep(1100 * time.Millisecond) // the pause between two attempts
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := tryCreate(short, s, byCell[1][0]); !errors.Is(err, queue.ErrDeadline) {
			t.Errorf("a short call: %v", err)
		}
		time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
		if err := tryCreate(t.Context(), s, byCell[1][0]); err != nil {
			t.Errorf("a call beside it: %v", err)
		}
	})
}
