package run

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// closeTimeout bounds the close of the manager and the store.
const closeTimeout = 10 * time.Second

// openService returns the configured service and its close function.
func openService(ctx context.Context, c *config, log *slog.Logger) (queue.Service, func(), error) {
	if c.database.URL != "" {
		return openDatabase(ctx, c, log)
	}
	return c.server.Dial(0)
}

// openDatabase returns the manager in process, with its background work.
func openDatabase(ctx context.Context, c *config, log *slog.Logger) (_ queue.Service, closer func(), err error) {
	store, err := c.database.Open(ctx, log)
	if err != nil {
		return nil, nil, err
	}

	defer func() {
		if err != nil {
			store.Close()
		}
	}()

	if err := store.Ping(ctx); err != nil {
		return nil, nil, err
	}
	all, closeCells, err := c.database.OpenCells(ctx, log, store, program.Cells{})
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			closeCells()
		}
	}()
	m, err := manager.New(all, manager.WithNamespace(cmp.Or(c.server.Namespace, queue.DefaultNamespace)), manager.WithLogger(log), manager.WithBackgroundWork(c.background),
		manager.WithMaxPayloadBytes(c.maxPayload))
	if err != nil {
		return nil, nil, err
	}

	work, end := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() {
		if err := m.Run(work); err != nil {
			log.ErrorContext(work, "background work ended", "err", err)
		}
	})

	return m, func() {
		end()
		background.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			log.ErrorContext(ctx, "not all calls ended", "err", err)
		}

		closeCells()
		store.Close()
	}, nil
}

// describe names the service for the log, without its secrets.
func (c *config) describe() string {
	at := "the database"
	if c.database.URL == "" {
		at = fmt.Sprintf("%s (%s)", redacted(c.server.URL), c.server.Protocol)
	}
	if c.server.Namespace != "" {
		at += ", namespace " + c.server.Namespace
	}
	return at
}

// redacted returns an address without its password.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that is none"
	}
	return u.Redacted()
}

// queueNames returns the names of the queues, for the log.
func (c *config) queueNames() string {
	names := make([]string, len(c.jobs))
	for i, j := range c.jobs {
		names[i] = j.Queue
	}
	return strings.Join(names, ",")
}
