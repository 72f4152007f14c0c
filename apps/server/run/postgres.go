package run

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// openPostgres opens the configured database, or starts an embedded one, and migrates it.
func (s *Server) openPostgres(ctx context.Context) (queue.Store, error) {
	url := s.cfg.URL
	if url == "" {
		var err error
		if url, err = s.startEmbedded(ctx); err != nil {
			return nil, err
		}
	}

	store, err := s.connect(ctx, url)
	if err != nil {
		return nil, err
	}

	s.prependStep("close the store", func(context.Context) error { store.Close(); return nil })
	if err := s.migrate(ctx, store); err != nil {
		return nil, err
	}

	s.checkRows(ctx, store)
	if err := s.checkDurability(ctx, store); err != nil {
		return nil, err
	}

	all, closeCells, err := s.cfg.OpenCells(ctx, s.log, store, program.Cells{Migrate: !s.cfg.NoMigrate, Options: s.storeOptions()})
	if err != nil {
		return nil, err
	}
	s.prependStep("close the cells", func(context.Context) error { closeCells(); return nil })
	return all, nil
}

// storeOptions are the options of the stores of all cells.
func (s *Server) storeOptions() []postgres.Option {
	opts := []postgres.Option{postgres.WithAuditRetention(*s.cfg.AuditRetention)}
	if s.tel.Tracing() {
		opts = append(opts, postgres.WithTracer(newPgxTracer(s.tel.TracerProvider())))
	}
	return opts
}

// startEmbedded starts a PostgreSQL and returns its URL.
func (s *Server) startEmbedded(ctx context.Context) (string, error) {
	opts := []embedded.Option{embedded.WithLogger(s.log)}
	if s.cfg.DataDir != "" {
		opts = append(opts, embedded.WithDataDir(s.cfg.DataDir))
	}

	pg, err := embedded.Start(ctx, opts...)
	switch {
	// Each kind decides the exit code and the remedy.
	case errors.Is(err, embedded.ErrInUse), errors.Is(err, embedded.ErrMajorVersion):
		return "", wrapKind(queue.KindConflict, "start PostgreSQL", err)
	case errors.Is(err, embedded.ErrDataDir):
		return "", wrapKind(queue.KindInvalid, "start PostgreSQL", err)
	case err != nil:
		return "", wrapKind(queue.KindInternal, "start PostgreSQL", err)
	}

	// A crash of PostgreSQL must end the server.
	var watch sync.WaitGroup
	watch.Go(func() {
		<-pg.Done()
		if err := pg.Err(); err != nil {
			s.recordFault(err)
		}
	})

	s.prependStep("stop PostgreSQL", func(ctx context.Context) error {
		err := pg.Stop(ctx)
		watch.Wait()
		return err
	})

	return pg.DSN(), nil
}

// connect connects to the database at url.
func (s *Server) connect(ctx context.Context, url string) (*postgres.Store, error) {
	db := s.cfg.Database
	db.URL = url
	return db.Open(ctx, s.log, s.storeOptions()...)
}

func (s *Server) migrate(ctx context.Context, store *postgres.Store) error {
	if s.cfg.NoMigrate {
		return schemaFault(store.Ping(ctx))
	}
	done, err := store.MigrateUp(ctx)
	if err != nil {
		return schemaFault(err)
	}
	for _, m := range done {
		s.log.InfoContext(ctx, "migrated", "version", m.Version, "name", m.Name, "schema", s.cfg.Schema)
	}
	return nil
}

// schemaFault turns the error of a schema that does not fit this program into a conflict, because a wait does not
// repair it as it would an unavailable database.
func schemaFault(err error) error {
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Kind == queue.KindUnavailable && e.Err == nil {
		c := *e
		c.Kind = queue.KindConflict
		return &c
	}
	return err
}

// checkDurability warns if a crash of PostgreSQL may lose an acknowledged task.
func (s *Server) checkDurability(ctx context.Context, store *postgres.Store) error {
	found, err := store.CheckDurability(ctx)
	if err != nil {
		return fmt.Errorf("check durability: %w", err)
	}
	for _, f := range found {
		if f.Level == queue.LevelOK {
			s.log.DebugContext(ctx, "durability", "setting", f.Name, "value", f.Value)
		} else {
			s.log.WarnContext(ctx, "acknowledged tasks may be lost with a crash of PostgreSQL", "setting", f.Name, "value", f.Value, "advice", f.Advice)
		}
	}
	return nil
}

// checkRows warns if rows contradict each other. The server starts nevertheless, because the rest of the database
// works.
func (s *Server) checkRows(ctx context.Context, store *postgres.Store) {
	f, err := store.CheckContradictions(ctx)
	switch {
	case err != nil:
		s.log.WarnContext(ctx, "cannot look for rows that contradict each other", "error", err)
	case f.Level != queue.LevelOK:
		s.log.ErrorContext(ctx, "rows of tasks contradict each other", "found", f.Value, "advice", f.Advice)
	}
}
