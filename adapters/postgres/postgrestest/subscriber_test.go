package postgrestest_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestLogicalReplication moves a queue to another database by logical replication, with the statements that
// docs/operations.md gives: through partitions that the subscriber does not have, then the switch.
func TestLogicalReplication(t *testing.T) {
	t.Parallel()
	needsDatabase(t)
	page, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "Logical replication to another cluster also lacks")
	section, _, _ = strings.Cut(section, "Tasks that were finished since")
	blocks := strings.Split(section, "```sql\n")
	if len(blocks) != 3 {
		t.Fatalf("the section has %d blocks of SQL, want one before the subscription and one for the switch", len(blocks)-1)
	}
	before, _, _ := strings.Cut(blocks[1], "```")
	atSwitch, _, _ := strings.Cut(blocks[2], "```")

	dsn := launchServer(t, embedded.WithSetting("wal_level", "logical"), embedded.WithSetting("fsync", "off"))
	admin := connect(t, dsn)
	sql(t, admin, "create database pub", "create database sub")
	pubDSN, subDSN := inDatabase(t, dsn, "pub"), inDatabase(t, dsn, "sub")
	pub, sub := connect(t, pubDSN), connect(t, subDSN)

	old := open(t, pubDSN, postgres.WithPartitionSize(1024))
	up(t, old)
	sql(t, pub, "drop table pgqueue.task_p1, pgqueue.done_p1", "delete from pgqueue.part") // this test has small ones
	mustQueue(t, old, "mail")
	makeTask(t, old, queue.DefaultNamespace, strings.Fields(strings.Repeat("mail ", 100))...)
	sql(t, pub,
		"create publication p for all tables with (publish_via_partition_root = true)",
		"select pg_create_logical_replication_slot('s', 'pgoutput')") // in one cluster the subscription cannot make it

	// The schema without its data, as pg_dump --schema-only brings it.
	up(t, open(t, subDSN))
	sql(t, sub, "drop table pgqueue.task_p1, pgqueue.done_p1")
	sql(t, sub, value[string](t, sub, `select 'truncate ' || string_agg(oid::regclass::text, ', ')
		from pg_class where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p') and not relispartition`))
	runAll(t, sub, before)
	sql(t, sub, fmt.Sprintf("create subscription s connection '%s' publication p with (create_slot = false, slot_name = 's')", pubDSN))

	// Some partitions come that the subscriber does not have, and tasks of them end.
	for range 3 {
		makeTask(t, old, queue.DefaultNamespace, strings.Fields(strings.Repeat("mail ", 1000))...)
		for _, c := range queue.Chores() {
			if _, err := old.Maintain(t.Context(), c); err != nil {
				t.Fatal(c, err)
			}
		}
	}
	var releases []queue.Release
	for _, task := range retain(t, old, 10) {
		releases = append(releases, queue.Release{ID: task.ID, Token: task.Lease.Token, Outcome: queue.OutcomeSuccess})
	}
	if _, err := old.ReleaseTasks(t.Context(), queue.DefaultNamespace, releases); err != nil {
		t.Fatal(err)
	}
	last, err := old.CancelTasks(t.Context(), queue.DefaultNamespace, queue.Selection{IDs: []int64{3090, 3091}})
	if err != nil || last.Moved != 2 {
		t.Fatal(last, err)
	}
	if n := value[int](t, pub, "select count(*) from pgqueue.part"); n < 3 {
		t.Fatalf("the publisher has %d partitions", n)
	}
	want := stats(t, old).Counts
	old.Close()

	// The subscriber has all when every table is past its copy, and the publisher's last position was confirmed.
	end := value[string](t, pub, "select pg_current_wal_lsn()::text")
	waitFor(t, func() (bool, string) {
		copying := value[int](t, sub, "select count(*) from pg_subscription_rel where srsubstate <> 'r'")
		behind := value[bool](t, pub, "select confirmed_flush_lsn < $1::pg_lsn from pg_replication_slots where slot_name = 's'", end)
		return copying == 0 && !behind, fmt.Sprintf("%d tables are being copied, behind: %v", copying, behind)
	})

	sql(t, sub, "drop subscription s")
	runAll(t, sub, atSwitch)
	s := open(t, subDSN)
	if err := s.AfterRestore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Maintain(t.Context(), queue.ChoreFold); err != nil {
		t.Fatal(err)
	}
	got := stats(t, s).Counts
	for _, status := range queue.Statuses() {
		if got[status] != want[status] {
			t.Errorf("%s: %d, want %d", status, got[status], want[status])
		}
	}
	found, err := s.Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if (f.Name == "restored_rows" || f.Name == "schema" || f.Name == "partitions") && f.Level != queue.LevelOK {
			t.Errorf("doctor: %+v", f)
		}
	}

	// It works on: the waiting tasks are retained, and new tasks get ids and tokens behind all of the old ones.
	makeTask(t, s, queue.DefaultNamespace, "mail")
	if dup := value[int](t, sub, "select count(*) - count(distinct id) from pgqueue.task"); dup != 0 {
		t.Errorf("%d ids were given twice", dup)
	}
	held := retain(t, s, 500)
	if len(held) != 500 {
		t.Fatalf("%d tasks were retained", len(held))
	}
	for _, r := range releases {
		if held[0].Lease.Token <= r.Token {
			t.Fatalf("token %d after %d", held[0].Lease.Token, r.Token)
		}
	}
	if _, err := s.Maintain(t.Context(), queue.ChorePrune); err != nil {
		t.Fatal(err)
	}
}

// inDatabase is dsn with another database.
func inDatabase(t *testing.T, dsn, name string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
