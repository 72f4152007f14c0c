package postgrestest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest/internal/server"
)

// setupTimeout bounds making or dropping one database, with the template at the first time.
const setupTimeout = 3 * time.Minute

// URL is the connection string of a new database with pgqueue's schema in its latest version, for this test alone. Its
// role may do everything. The database is dropped when the test passed; that of a failed test is kept, and the log
// shows how to open it. With -short the test is skipped.
func URL(t testing.TB) string {
	t.Helper()
	return database(t, func(ctx context.Context, admin string) (string, error) {
		name, err := template(ctx, admin)
		if err != nil {
			return "", fmt.Errorf("making the template: %w", err)
		}
		return " template " + quote(name), nil
	})
}

// Empty is URL with nothing in the database: not even pgqueue's schema.
func Empty(t testing.TB) string {
	t.Helper()
	return database(t, func(context.Context, string) (string, error) { return " template template0", nil })
}

// Open opens a Store on a database of this test's own (see URL) and closes it at the end. With another schema than the
// default (postgres.WithSchema) it migrates that.
func Open(t testing.TB, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	return OpenURL(t, URL(t), opts...)
}

// OpenURL is Open on a database that is there: for several Stores on one, which behave like as many processes.
func OpenURL(t testing.TB, dsn string, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	s, err := postgres.Open(ctx, dsn, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if s.Schema() != postgres.DefaultSchema {
		if _, err := s.MigrateUp(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// database makes one as how says (the end of CREATE DATABASE) and sees to its end.
func database(t testing.TB, how func(ctx context.Context, admin string) (string, error)) string {
	t.Helper()
	admin := serverURL(t)
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	source, err := how(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	name := databaseName(t.Name())
	if err := execute(ctx, admin, "create database "+quote(name)+source); err != nil {
		t.Fatal(err)
	}
	own, err := inDatabase(admin, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the database of this test is kept while the server runs: psql '%s'", own)
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), setupTimeout)
		defer cancel()
		if err := execute(ctx, admin, "drop database if exists "+quote(name)+" with (force)"); err != nil {
			t.Errorf("dropping the database of the test: %v", err)
		}
	})
	return own
}

// databaseName returns a unique name that begins with the test's.
func databaseName(test string) string {
	slug := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return server.Prefix + slug[:min(len(slug), 36)] + "_" + strings.ToLower(rand.Text()[:12])
}

// template is the name of a database that holds the latest schema and nothing else. The first test that needs it makes it,
// under a lock, so that the test binaries of one run share it. Another text of the migrations makes another.
func template(ctx context.Context, admin string) (string, error) {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // and the lock with it
	script, err := migrationScript(ctx, admin)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(script + dropPartitions))
	name := server.TemplatePrefix + hex.EncodeToString(sum[:6])
	if ok, err := exists(ctx, conn, name); ok || err != nil {
		return name, err
	}
	if _, err := conn.Exec(ctx, "select pg_advisory_lock(hashtext($1))", name); err != nil {
		return "", err
	}
	if ok, err := exists(ctx, conn, name); ok || err != nil {
		return name, err
	}
	// Under another name until it is whole: a process that is killed here leaves no database that looks usable.
	half := name + "_half"
	for _, q := range []string{
		"drop database if exists " + quote(half) + " with (force)",
		"create database " + quote(half) + " template template0",
	} {
		if _, err := conn.Exec(ctx, q); err != nil {
			return "", err
		}
	}
	if err := migrate(ctx, admin, half); err != nil {
		return "", err
	}
	for _, q := range []string{
		"alter database " + quote(half) + " with allow_connections false", // a guest would keep others from cloning it
		"alter database " + quote(half) + " rename to " + quote(name),
	} {
		if _, err := conn.Exec(ctx, q); err != nil {
			return "", err
		}
	}
	return name, nil
}

func exists(ctx context.Context, conn *pgx.Conn, name string) (ok bool, err error) {
	err = conn.QueryRow(ctx, "select exists (select 1 from pg_database where datname = $1)", name).Scan(&ok)
	return ok, err
}

func migrate(ctx context.Context, admin, name string) error {
	dsn, err := inDatabase(admin, name)
	if err != nil {
		return err
	}
	s, err := postgres.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.MigrateUp(ctx); err != nil {
		return err
	}
	_, err = s.Pool().Exec(ctx, dropPartitions, pgx.QueryExecModeSimpleProtocol)
	return err
}

// dropPartitions drops the first partition, which the migrations make: each test chooses the size of its partitions.
const dropPartitions = "drop table pgqueue.task_p1, pgqueue.done_p1; delete from pgqueue.part"

// migrationScript is the text of all migrations. It needs a Store, but no connection.
func migrationScript(ctx context.Context, admin string) (string, error) {
	pool, err := pgxpool.New(ctx, admin)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	s, err := postgres.New(pool)
	if err != nil {
		return "", err
	}
	defer s.Close()
	return s.MigrationSQL(true) + s.MigrationSQL(false), nil
}

// execute runs one statement on a connection of its own.
func execute(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// inDatabase is the connection string with another database.
func inDatabase(dsn, name string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", fmt.Errorf("%s must be a URL, postgres://…", server.URLEnv)
	}
	u.Path = "/" + name
	return u.String(), nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
