package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// openPostgres opens the database that the configuration names, or one of its own, migrated.
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
	s.first("close the store", func(context.Context) error { store.Close(); return nil })
	if err := s.migrate(ctx, store); err != nil {
		return nil, err
	}
	return store, s.checkDurability(ctx, store)
}

// startEmbedded starts a PostgreSQL and returns its URL.
func (s *Server) startEmbedded(ctx context.Context) (string, error) {
	opts := []embedded.Option{embedded.WithLogger(s.log)}
	if s.cfg.DataDir != "" {
		opts = append(opts, embedded.WithDataDir(s.cfg.DataDir))
	}
	pg, err := embedded.Start(ctx, opts...)
	switch {
	case errors.Is(err, embedded.ErrInUse), errors.Is(err, embedded.ErrMajorVersion):
		return "", as(queue.KindConflict, "start PostgreSQL", err)
	case errors.Is(err, embedded.ErrDataDir):
		return "", as(queue.KindInvalid, "start PostgreSQL", err)
	case err != nil:
		return "", as(queue.KindInternal, "start PostgreSQL", err)
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		<-pg.Done()
		if err := pg.Err(); err != nil {
			s.fail(err)
		}
	})
	s.first("stop PostgreSQL", func(ctx context.Context) error {
		err := pg.Stop(ctx)
		watch.Wait()
		return err
	})
	return pg.DSN(), nil
}

// connectEvery is how long to rest between attempts to reach a database, connectPatience how long one may take, and
// tellEvery how often the log says that it is still waited for.
const (
	connectEvery    = 250 * time.Millisecond
	connectPatience = 10 * time.Second
	tellEvery       = 30 * time.Second
)

// connect waits for a database that does not answer yet, as one that is starting beside this program.
func (s *Server) connect(ctx context.Context, url string) (*postgres.Store, error) {
	opts := []postgres.Option{postgres.WithSchema(s.cfg.Schema), postgres.WithLogger(s.log), postgres.WithMaxConns(s.cfg.MaxConns)}
	if s.cfg.ListenURL != "" {
		opts = append(opts, postgres.WithListenURL(s.cfg.ListenURL))
	}
	if s.cfg.Pooler {
		opts = append(opts, postgres.WithPooler())
	}
	if s.tel.Tracing() {
		opts = append(opts, postgres.WithTracer(newPgxTracer(s.tel.TracerProvider())))
	}
	begin := time.Now()
	until, told := begin.Add(s.cfg.Wait), begin
	if s.cfg.Waiting != nil {
		defer s.cfg.Waiting(nil, 0)
	}
	for {
		try, cancel := context.WithTimeout(ctx, connectPatience)
		store, err := postgres.Open(try, url, opts...)
		cancel()
		switch {
		case err == nil:
			return store, nil
		case ctx.Err() != nil || !postgres.WaitHelps(err):
			return nil, as(queue.KindUnavailable, "open database", err)
		case time.Now().Add(connectEvery).After(until):
			return nil, noDatabase(err, time.Since(begin))
		}
		// Who starts this program beside its database waits as a matter of course; the log is for when that takes long.
		if s.cfg.Waiting != nil {
			s.cfg.Waiting(err, time.Until(until))
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			s.log.WarnContext(ctx, "waiting for the database", "error", program.OneLine(err), "left", time.Until(until).Round(time.Second))
		}
		if err := pause(ctx, connectEvery); err != nil {
			return nil, as(queue.KindCanceled, "open database", err)
		}
	}
}

// noDatabase is the error of a database that did not answer in all that time.
func noDatabase(err error, after time.Duration) error {
	out := &queue.Error{Op: "open database", Kind: queue.KindUnavailable, Err: err}
	out.Msg = fmt.Sprintf("it did not answer within %s; check the URL, and that PostgreSQL runs there", after.Round(100*time.Millisecond))
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Err != nil {
		out.Err = e.Err
	}
	return out
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

// schemaFault makes a schema that does not fit this program a conflict: waiting does not mend it, as it would what is
// unavailable.
func schemaFault(err error) error {
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Kind == queue.KindUnavailable && e.Err == nil {
		c := *e
		c.Kind = queue.KindConflict
		return &c
	}
	return err
}

// checkDurability says so when an acknowledged task may be lost with a crash of PostgreSQL.
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
