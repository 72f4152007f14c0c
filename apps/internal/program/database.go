package program

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of a Database, and the longest wait for one.
const (
	DefaultSchema = "pgqueue"
	DefaultWait   = 30 * time.Second
	maxWait       = time.Hour
)

// Database configures the connection to PostgreSQL. All programs have the same settings with the same meaning.
type Database struct {
	// URL is a URL, or keywords and values; "" = no database.
	URL string
	// ListenURL connects directly for LISTEN when URL connects through a pooler.
	ListenURL string
	// Pooler declares that URL connects through a transaction pooler.
	Pooler bool
	// Schema holds the tables.
	Schema string
	// CellsFile is a YAML file of further cells; "" = those of the directory in the database. See ReadCellsFile.
	CellsFile string
	// MaxConns bounds the connections to the database; 0 = the store's default.
	MaxConns int
	// Wait is the longest wait for a database that does not answer yet, at most 1 h.
	Wait time.Duration
	// Waiting, if set, is called after each failed attempt to connect, with the time left for more attempts. After
	// the last attempt it is called with nil.
	Waiting func(err error, left time.Duration)
}

// Flags defines the flags of d with their environment variables. The present values are the defaults.
func (d *Database) Flags(to *pflag.FlagSet) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.StringVar(&d.URL, "database-url", d.URL, "`URL` of the database, as postgres://app@db.example.org/app, or keywords: host=HOST user=USER")
	fs.StringVar(&d.Schema, "schema", d.Schema, "database `schema` of the tables")
	fs.StringVar(&d.ListenURL, "listen-url", d.ListenURL, "direct database `URL` for LISTEN, when the other leads through a pooler")
	fs.BoolVar(&d.Pooler, "pooler", d.Pooler, "the database's URL leads through a transaction pooler such as pgbouncer")
	fs.StringVar(&d.CellsFile, "cells-file", d.CellsFile, "YAML `file` of further cells (default: the directory in the database)")
	fs.IntVar(&d.MaxConns, "max-conns", d.MaxConns, "most connections to the database (default: the store's)")
	DurationVar(fs, &d.Wait, "wait", "how long to wait for a database that does not answer yet")
	FromEnvironment(fs)
	to.AddFlagSet(fs)
}

// Argument sets the URL from an argument, which overrides the flag and its variable.
func (d *Database) Argument(args []string) error {
	switch {
	case len(args) == 1:
		d.URL = args[0]
	case len(args) > 1:
		return queue.Invalid("database-url", fmt.Sprintf("must be one URL, got %d; leave the others out", len(args)))
	}
	return nil
}

// RefuseClientURL refuses a database in PGQUEUE_URL, which names a server to its clients. A server without a database
// would start an embedded one beside it.
func (d *Database) RefuseClientURL(lookup func(string) (string, bool)) error {
	if url, _ := lookup(Variable("url")); d.URL == "" && isDatabaseURL(url) {
		return queue.Invalid(Variable("url"), "must be the http URL of a server, for clients, got one of a database; set "+Variable("database-url")+" instead")
	}
	return nil
}

// Validate reports the first wrong setting. Its error never contains a URL, which may hold a password.
func (d *Database) Validate() error {
	if err := checkURL("database-url", d.URL); err != nil {
		return err
	}
	if err := checkURL("listen-url", d.ListenURL); err != nil {
		return err
	}
	if d.Wait < 0 || d.Wait > maxWait {
		return queue.Invalid("wait", fmt.Sprintf("must be a duration from 0 to %s, got %v", maxWait, d.Wait))
	}
	if err := postgres.CheckSchema(d.Schema); err != nil {
		return err
	}
	return queue.CheckInt("max-conns", d.MaxConns, 0, 10_000)
}

// checkURL lets the driver decide whether s is a URL, and adds a remedy to its error.
func checkURL(field, s string) error {
	if s == "" {
		return nil
	}

	_, err := pgx.ParseConfig(s)
	if err == nil {
		return nil
	}

	const want = "must be a URL such as postgres://user@host/database, or keywords such as host=… user=… dbname=…"
	scheme, _, isURL := strings.Cut(s, "://")
	if scheme == "http" || scheme == "https" {
		return queue.Invalid(field, want+"; got the URL of a server, which is for clients")
	}
	if isURL && scheme != "postgres" && scheme != "postgresql" && !strings.ContainsAny(scheme, "= ") {
		return queue.Invalid(field, fmt.Sprintf(want+"; got the unknown scheme %.64q", scheme))
	}

	remedy := "correct that keyword"
	if isURL {
		remedy = "in a URL percent-encode what is special in the password, as %23 for #, or use keywords"
	}

	// The driver repeats the URL and puts its reason behind it. If the driver could not parse the text, the reason
	// contains a part of the text, which may belong to the password.
	text := err.Error()
	at := strings.LastIndex(text, "`: ")
	if at < 0 || strings.HasPrefix(text[at+3:], "failed to parse as") {
		return queue.Invalid(field, want+"; "+remedy)
	}

	return queue.Invalid(field, want+": "+Clean(text[at+3:])+"; "+remedy)
}

// connectEvery is the delay between attempts to connect, connectPatience bounds one attempt, and tellEvery is the
// interval of the log lines during the wait.
const (
	connectEvery    = 250 * time.Millisecond
	connectPatience = 10 * time.Second
	tellEvery       = 30 * time.Second
)

// Open connects. It waits for a database that does not answer yet, for example because it starts beside this program.
func (d *Database) Open(ctx context.Context, log *slog.Logger, more ...postgres.Option) (*postgres.Store, error) {
	const op = "open database"
	opts := append([]postgres.Option{postgres.WithSchema(d.Schema), postgres.WithLogger(log), postgres.WithMaxConns(d.MaxConns)}, more...)
	if d.ListenURL != "" {
		opts = append(opts, postgres.WithListenURL(d.ListenURL))
	}
	if d.Pooler {
		opts = append(opts, postgres.WithPooler())
	}
	begin := time.Now()
	until, told := begin.Add(d.Wait), begin
	if d.Waiting != nil {
		defer d.Waiting(nil, 0)
	}

	for {
		try, cancel := context.WithTimeout(ctx, connectPatience)
		store, err := postgres.Open(try, d.URL, opts...)
		cancel()
		switch {
		case err == nil:
			return store, nil
		case ctx.Err() != nil || !postgres.WaitHelps(err):
			return nil, asUnavailable(op, err)
		case time.Now().Add(connectEvery).After(until):
			return nil, noDatabase(op, err, time.Since(begin))
		}

		// A short wait is normal for a program that starts together with its database. The log covers a long wait.
		if d.Waiting != nil {
			d.Waiting(err, time.Until(until))
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			log.WarnContext(ctx, "waiting for the database", "error", OneLine(err), "left", time.Until(until).Round(time.Second))
		}
		select {
		case <-time.After(connectEvery):
		case <-ctx.Done():
			return nil, &queue.Error{Op: op, Kind: queue.KindCanceled, Err: ctx.Err()}
		}
	}
}

// asUnavailable adds the operation to err, and KindUnavailable if it has no kind.
func asUnavailable(op string, err error) error {
	if _, ok := errors.AsType[*queue.Error](err); ok {
		return queue.WithOp(op, err)
	}
	return &queue.Error{Op: op, Kind: queue.KindUnavailable, Err: err}
}

// noDatabase returns the error of a database that has not answered during the whole wait.
func noDatabase(op string, err error, after time.Duration) error {
	out := &queue.Error{Op: op, Kind: queue.KindUnavailable, Err: err}
	out.Msg = fmt.Sprintf("it did not answer within %s; check the URL, and that PostgreSQL runs there", after.Round(100*time.Millisecond))
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Err != nil {
		out.Err = e.Err
	}
	return out
}
