// Package server finds or starts the PostgreSQL that tests use: one rule for package postgrestest and for its command.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/embedded"
)

// The environment that decides which server tests use.
const (
	// URLEnv names a server that is there: a connection string of a role that may create databases.
	URLEnv = "PGQUEUE_TEST_URL"
	// ImageEnv names the image of a container.
	ImageEnv = "PGQUEUE_TEST_IMAGE"
	// BinDirEnv names the server binaries to start, instead of a container.
	BinDirEnv = "PGQUEUE_TEST_BINDIR"

	defaultImage = "postgres:17-alpine"
)

// Prefix begins the name of every database that a test made, TemplatePrefix that of those which are cloned.
const (
	Prefix         = "pgqueue_test_"
	TemplatePrefix = "pgqueue_template_"
)

const stopTimeout = 30 * time.Second

// settings of a server for ordinary tests: many small databases, made and dropped quickly. Its data may be lost with the
// machine, so fsync is off; a test of crashes starts a server of its own. synchronous_commit stays on: tests
// depend on the order that it keeps.
var settings = map[string]string{
	"fsync":                     "off",
	"full_page_writes":          "off",
	"max_connections":           "300",
	"shared_buffers":            "256MB",
	"max_prepared_transactions": "520", // diagnosed by tests, and listed in their snapshots
}

// Options of Start. The zero value is a server of this process alone, made as the environment says.
type Options struct {
	// BinDir starts these binaries; "" = what the environment says.
	BinDir string
	// DataDir starts a folder that an earlier run kept, and keeps it again.
	DataDir string
	// Log receives the chosen server and the kept databases.
	Log func(format string, args ...any)
}

// Server is a PostgreSQL for tests.
type Server struct {
	// URL of a role that may create databases.
	URL  string
	stop func(context.Context) error
}

// Start starts a PostgreSQL: a container where a Docker engine answers and has the image, else one of this machine's
// binaries.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.BinDir == "" {
		o.BinDir = os.Getenv(BinDirEnv)
	}
	if o.BinDir == "" && o.DataDir == "" {
		image := os.Getenv(ImageEnv)
		if image == "" {
			image = defaultImage
		}
		s, err := startContainer(ctx, image)
		if err == nil {
			o.Log("testing on a container of %s", image)
			return s, nil
		}
		if !errors.Is(err, errNoEngine) {
			o.Log("a Docker engine answers, but no container of %s could be had, so this machine's PostgreSQL is used: %v", image, err)
		}
	}
	return startEmbedded(ctx, o)
}

// Stop ends the server. It keeps the databases of failed tests where that is possible, and logs how to open them.
func (s *Server) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return s.stop(ctx)
}

func startEmbedded(ctx context.Context, o Options) (*Server, error) {
	dir, kept := o.DataDir, o.DataDir != ""
	if !kept {
		// Not made here: embedded makes it for the user that PostgreSQL runs as.
		dir = filepath.Join(os.TempDir(), "pgqueue-test-"+strings.ToLower(rand.Text()[:10]))
	}
	opts := []embedded.Option{embedded.WithDataDir(dir)}
	for name, value := range settings {
		opts = append(opts, embedded.WithSetting(name, value))
	}
	if o.BinDir != "" {
		opts = append(opts, embedded.WithBinDir(o.BinDir))
	}
	pg, err := embedded.Start(ctx, opts...)
	if err != nil {
		if !kept {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return nil, err
	}
	return &Server{URL: pg.DSN(), stop: func(ctx context.Context) error {
		names, err := failed(ctx, pg.DSN())
		stopped := pg.Stop(ctx)
		if kept || err != nil || len(names) > 0 {
			logKept(o.Log, dir, names)
			return errors.Join(err, stopped)
		}
		return errors.Join(err, stopped, os.RemoveAll(dir))
	}}, nil
}

// logKept says how to open the databases of a folder.
func logKept(log func(string, ...any), dir string, names []string) {
	if len(names) == 0 {
		return
	}
	const command = "go run github.com/pgqueue/pgqueue/adapters/postgres/postgrestest/cmd/testdb"
	log("databases of failed tests are kept in %s; remove it when you are done. To open them:", dir)
	for _, name := range names {
		log("    %s -data %s -- psql -d %s", command, dir, name)
	}
}

// failed lists the databases that tests left behind.
func failed(ctx context.Context, url string) ([]string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("looking for databases of failed tests: %w", err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select datname from pg_database where starts_with(datname, $1) order by 1", Prefix)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
