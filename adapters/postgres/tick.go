package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The statements on ticks, and on tickers without a queue.
var (
	recordManualTask       = statement("ticker.made")
	readDueListenedTickers = statement("ticker.due.listen")
	findNextListenedTick   = statement("ticker.next.listen")
	listTicks              = statement("tick.list")
	takeTicks              = statement("tick.take")
	settleTicks            = statement("tick.settle")
)

// RunTicker implements queue.Store. It fires the ticker once, now, outside of its schedule.
func (s *Store) RunTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Tick, error) {
	const op = "run ticker"
	f, err := s.runFiring(ctx, op, func(ctx context.Context, t *txn.Tx, f *firing) error {
		k, now, err := lockTickerByName(ctx, t, namespace, name)
		if err != nil {
			return err
		}

		if err := queue.CheckVersion("ticker "+name, k.Version, only...); err != nil {
			return err
		}
		if err := checkTarget(ctx, t, &k.Ticker); err != nil {
			return err
		}

		// A manual tick leaves the plan of the ticker unchanged.
		f.now = now
		f.addTick(k, now, true)
		if err := f.writeFiring(ctx, t, s); err != nil {
			return err
		}

		if k.lastTask != nil {
			t.Queue(recordManualTask, arg("id", k.id), arg("queue_id", k.lastQueue), arg("task_id", k.lastTask))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	f.publishFiring(s)
	return &f.ticks[0], nil
}

// ListTicks implements queue.Store.
func (s *Store) ListTicks(ctx context.Context, namespace, name string, limit int) ([]queue.Tick, error) {
	if _, err := s.GetTicker(ctx, namespace, name); err != nil {
		return nil, err
	}
	ticks := []queue.Tick{}
	err := s.db.Query(ctx, "list ticks", listTicks, makeTickScanner(&ticks),
		arg("namespace", namespace), arg("name", name), arg("limit", limit), arg("bytes", queue.MaxPageBytes))
	return ticks, err
}

// listedTickColumns are the columns of a tick as callers see it.
var listedTickColumns = table.Of[queue.Tick]()

// makeTickScanner returns a function that appends each row to into.
func makeTickScanner(into *[]queue.Tick) func(pgx.Rows) error {
	return scanRows(listedTickColumns, func(k queue.Tick) {
		k.At, k.FiredAt = k.At.UTC(), k.FiredAt.UTC()
		*into = append(*into, k)
	})
}

// TakeTicks implements queue.Store. A ticker without a queue fires when a listener takes ticks. A time without
// listeners is therefore a downtime under its misfire policy.
func (s *Store) TakeTicks(ctx context.Context, namespace string, limit int, hold time.Duration) ([]queue.Tick, time.Duration, error) {
	const op = "take ticks"
	var ticks []queue.Tick
	var next queue.Maintained
	// take holds ticks for this listener and reads the time of the next one.
	take := func(ctx context.Context, t *txn.Tx) error {
		ticks, next = []queue.Tick{}, queue.Maintained{}
		t.QueueQuery(takeTicks, makeTickScanner(&ticks),
			arg("namespace", namespace), arg("limit", min(limit, queue.MaxTakenTicks)), arg("hold", int64(hold)))
		return t.Query(ctx, findNextListenedTick, nextIn(&next), arg("namespace", namespace))
	}

	fired, together, err := s.fireDue(ctx, op, readDueListenedTickers, []sqltext.Arg{arg("namespace", namespace)}, func(ctx context.Context, t *txn.Tx) error {
		// The ticks must be there before take finds them.
		if err := t.Flush(ctx); err != nil {
			return err
		}
		return take(ctx, t)
	})
	s.logTickerFaults(fired.Faults)
	if err == nil && !together {
		err = s.db.Run(ctx, op, take)
	}
	if err != nil {
		return nil, 0, err
	}
	return ticks, next.NextIn, nil
}

// logTickerFaults logs faults that no step of background work reports, each once as long as it stays the same.
func (s *Store) logTickerFaults(faults []queue.Fault) {
	for _, f := range faults {
		if !f.Known {
			s.opt.logger.Warn("a ticker cannot fire; the others go on", "namespace", f.Namespace, "subject", f.Subject, "error", f.Err)
		}
	}
}

// SettleTicks implements queue.Store. It records ticks as delivered, or makes them available again.
func (s *Store) SettleTicks(ctx context.Context, namespace string, ids []int64, delivered bool) error {
	if len(ids) == 0 {
		return nil
	}
	return s.db.Run(ctx, "settle ticks", func(_ context.Context, t *txn.Tx) error {
		t.Queue(settleTicks, arg("namespace", namespace), arg("ids", ids), arg("delivered", delivered))
		return nil
	})
}
