package postgrestest_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// citusEnv names the coordinator of a Citus, by a URL with a database in which the extension is created.
const citusEnv = "PGQUEUE_TEST_CITUS_URL"

// citus is a Citus for tests: each Store has a distributed schema of its own, and enters it by the node that has it.
type citus struct {
	coordinator string
	homes       sync.Map // url of the home, by schema
}

// needsCitus skips a test without a Citus.
func needsCitus(t *testing.T) *citus {
	t.Helper()
	coordinator := os.Getenv(citusEnv)
	if coordinator == "" {
		t.Skipf("SKIPPED: no Citus was tried; %s names its coordinator (make test-citus)", citusEnv)
	}
	return &citus{coordinator: coordinator}
}

// open makes a distributed schema and opens a Store on its home.
func (c *citus) open(t testing.TB, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	schema := "q_" + strings.ToLower(rand.Text()[:10])
	maker, err := postgres.Open(t.Context(), c.coordinator, postgres.WithSchema(schema))
	if err != nil {
		t.Fatal(err)
	}
	defer maker.Close()
	if _, err := maker.MigrateUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, c.coordinator)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "drop schema "+schema+" cascade"); err != nil {
			t.Error(err)
		}
	})

	home := c.find(t, schema)
	c.homes.Store(schema, home)
	s := c.peer(t, schema, opts...)
	c.makeHome(t, home, schema)
	return s
}

// find returns the URL of the node that has the schema.
func (c *citus) find(t testing.TB, schema string) string {
	t.Helper()
	conn := connect(t, c.coordinator)
	port := value[int](t, conn, "select nodeport from citus_shards where table_name = ($1 || '.queue')::regclass", schema)
	host := value[string](t, conn, "select nodename from citus_shards where table_name = ($1 || '.queue')::regclass", schema)
	u, err := url.Parse(c.coordinator)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = host + ":" + strconv.Itoa(port)
	return u.String()
}

// makeHome makes the sequences of the schema on its home, and begins the feed by the transaction ids of the home.
func (c *citus) makeHome(t testing.TB, home, schema string) {
	t.Helper()
	conn := connect(t, home)
	sql(t, conn, "set citus.enable_ddl_propagation = off",
		"create sequence if not exists "+schema+".turn as bigint cache 1",
		"create sequence if not exists "+schema+".token as bigint start 256 increment 256 cache 1",
		"create sequence if not exists "+schema+".number as integer cache 1")
	now := value[string](t, conn, "select pg_current_snapshot()::text")
	if _, err := conn.Exec(t.Context(), "update "+schema+".fold set seen = $1::text::pg_snapshot, pruned = pg_snapshot_xmin($1::text::pg_snapshot)", now); err != nil {
		t.Fatal(err)
	}
}

// peer opens another Store on a schema.
func (c *citus) peer(t testing.TB, schema string, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	home, _ := c.homes.Load(schema)
	s, err := postgres.Open(t.Context(), home.(string), append(opts, postgres.WithSchema(schema), postgres.WithDDLURL(c.coordinator))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (c *citus) harness() queuetest.StoreHarness {
	return queuetest.StoreHarness{
		New: func(t testing.TB) queue.Store { return c.open(t) },
		Advance: func(t testing.TB, s queue.Store, d time.Duration) {
			postgrestest.AdvanceSchema(t, c.coordinator, s.(*postgres.Store).Schema(), d)
		},
		Peer:     func(t testing.TB, s queue.Store) queue.Store { return c.peer(t, s.(*postgres.Store).Schema()) },
		Audit:    audit,
		Features: harness().Features,
	}
}

// executes are the statements that Citus runs and cannot explain with made-up arguments; TestCitusStore runs them.
var executes = map[string]string{
	"move.back":    "explain does not know its steps",
	"repair.ready": "explain does not know its steps",
	"event.list":   "it needs a snapshot",
	"fold":         "it needs a snapshot",
}

// TestCitusStatements has Citus plan every statement on the home of a distributed schema.
func TestCitusStatements(t *testing.T) {
	c := needsCitus(t)
	s := c.open(t)
	home, _ := c.homes.Load(s.Schema())
	conn := connect(t, home.(string))
	texts := postgres.Statements(s.Schema())
	refused := 0
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		text := texts[name]
		if strings.Contains(text, "{") || utility.MatchString(text) || name == "home.make" || strings.HasPrefix(name, "migrate.") || strings.HasPrefix(name, "diagnose.") {
			continue
		}
		if conn.IsClosed() {
			conn = connect(t, home.(string))
		}
		d, err := conn.Prepare(t.Context(), name, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		args := ""
		if n := len(d.ParamOIDs); n > 0 {
			list := make([]string, n)
			for i, oid := range d.ParamOIDs {
				list[i] = someValue(t, conn, oid)
			}
			args = "(" + strings.Join(list, ", ") + ")"
		}
		if executes[name] != "" {
			continue
		}
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("explain execute %s%s", pgx.Identifier{name}.Sanitize(), args), pgx.QueryExecModeSimpleProtocol); err != nil {
			refused++
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("%d of %d statements are refused", refused, len(texts))
}

// someValue returns the text of a value of a type. Citus plans a statement with null in another way than with values.
func someValue(t *testing.T, conn *pgx.Conn, oid uint32) string {
	t.Helper()
	switch name := value[string](t, conn, "select format_type($1, -1)", oid); {
	case strings.HasSuffix(name, "[]"):
		return "'{}'"
	case name == "text":
		return "''"
	case name == "json", name == "jsonb":
		return "'{}'"
	case name == "boolean":
		return "true"
	case name == "timestamp with time zone":
		return "now()"
	case name == "bytea":
		return "''"
	case name == "tid":
		return "'(0,1)'"
	default:
		return "1"
	}
}

// TestCitusStore holds a distributed schema to the contract.
func TestCitusStore(t *testing.T) { queuetest.TestStore(t, needsCitus(t).harness()) }

// TestCitusModel makes 400 random operations on a distributed schema.
func TestCitusModel(t *testing.T) { queuetest.Model(t, needsCitus(t).harness(), 400, 1) }
