package postgrestest

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres"
)

// Advance moves the clock of s's schema by d, for every Store on that database, on top of earlier moves. Only calls that
// begin later see it. Times stay those of a clock that runs.
func Advance(t testing.TB, s *postgres.Store, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	conn, err := s.Pool().Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	advance(ctx, t, conn.Conn(), s.Schema(), d)
}

// AdvanceURL is Advance for the default schema of the database at url: for programs that were started on it.
func AdvanceURL(t testing.TB, url string, d time.Duration) {
	t.Helper()
	AdvanceSchema(t, url, postgres.DefaultSchema, d)
}

// AdvanceSchema is AdvanceURL for another schema.
func AdvanceSchema(t testing.TB, url, schema string, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	advance(ctx, t, conn, schema, d)
}

// offsetOf finds by how much the function was moved before.
var offsetOf = regexp.MustCompile(`secs => (-?\d+) /`)

func advance(ctx context.Context, t testing.TB, conn *pgx.Conn, schema string, d time.Duration) {
	t.Helper()
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Two at once would both read the old offset.
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtext($1))", "pgqueue clock "+schema); err != nil {
			return err
		}
		var body string
		err := tx.QueryRow(ctx, "select p.prosrc from pg_proc p join pg_namespace n on n.oid = p.pronamespace "+
			"where n.nspname = $1 and p.proname = 'clock'", schema).Scan(&body)
		if err != nil {
			return err
		}
		offset := d.Microseconds()
		if m := offsetOf.FindStringSubmatch(body); m != nil {
			before, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				return err
			}
			offset += before
		}
		for _, name := range []string{"clock", "clock_inlined"} {
			_, err := tx.Exec(ctx, fmt.Sprintf("create or replace function %s.%s() returns timestamptz language plpgsql stable parallel safe "+
				"as $$begin return pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %d / 1000000.0); end$$", quote(schema), name, offset))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("advancing the clock: %v", err)
	}
}
