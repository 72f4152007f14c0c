package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// storedTicker is a ticker as stored.
type storedTicker struct {
	id int32
	queue.Ticker
}

func (k *storedTicker) scan(rows pgx.Rows, before ...any) error {
	var lastAt, nextAt *time.Time
	dst := slices.Concat(before, []any{
		&k.id, &k.Namespace, &k.Name, &k.Period, &k.Cron, &k.Timezone, &k.Queue, (*[]byte)(&k.Payload), &k.Misfire,
		&k.MisfireLimit, &k.Overlap, &k.Paused, &lastAt, &nextAt, &k.Anchor, &k.Version, &k.CreatedAt, &k.UpdatedAt,
	})
	err := rows.Scan(dst...)
	k.Timestamp, k.NextAt, k.Anchor = timeOf(lastAt), timeOf(nextAt), k.Anchor.UTC()
	k.CreatedAt, k.UpdatedAt = k.CreatedAt.UTC(), k.UpdatedAt.UTC()
	return err
}

func noTicker(name string) error {
	return &queue.Error{Kind: queue.KindNotFound, Subject: "ticker " + name, Msg: "no such ticker"}
}

// plan sets when k fires next after settled.
func plan(k *queue.Ticker, settled time.Time) error {
	sch, err := k.Schedule()
	if err != nil {
		return err
	}
	k.NextAt = time.Time{}
	if !k.Paused {
		k.NextAt, _ = sch.Next(k.Anchor, settled)
	}
	return nil
}

// checkTarget makes sure that k's queue is there.
func (s *Store) checkTarget(ctx context.Context, k *queue.Ticker) error {
	if k.Queue == "" {
		return nil
	}
	_, err := s.named(ctx, k.Namespace, []string{k.Queue})
	return err
}

// CreateTicker implements queue.Store.
func (s *Store) CreateTicker(ctx context.Context, k queue.Ticker) (*queue.Ticker, error) {
	const op = "create ticker"
	if err := s.checkTarget(ctx, &k); err != nil {
		return nil, queue.WithOp(op, err)
	}
	made := false
	err := s.inTx(ctx, op, func(ctx context.Context, t *tx) error {
		made = false
		if err := t.read(ctx, "clock", func(rows pgx.Rows) error { return rows.Scan(&k.Anchor) }); err != nil {
			return err
		}
		k.Anchor = k.Anchor.UTC()
		k.CreatedAt, k.UpdatedAt = k.Anchor, k.Anchor
		if err := plan(&k, k.Anchor); err != nil {
			return err
		}
		t.queueRows("ticker.insert", func(rows pgx.Rows) error { made = true; return nil }, k.Namespace, k.Name, k.Period, k.Cron,
			k.Timezone, k.Queue, []byte(k.Payload), k.Misfire, k.MisfireLimit, k.Overlap, k.Paused, timePtr(micros(k.NextAt)), k.Anchor)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !made {
		return nil, &queue.Error{Op: op, Kind: queue.KindAlreadyExists, Subject: "ticker " + k.Name, Msg: "a ticker of that name exists"}
	}
	return &k, nil
}

// GetTicker implements queue.Store.
func (s *Store) GetTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	const op = "get ticker"
	var k *storedTicker
	err := s.query(ctx, op, "ticker.page", func(rows pgx.Rows) error {
		k = &storedTicker{}
		return k.scan(rows, nil)
	}, namespace, name, 0, 1, "", queue.MaxPageBytes)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, queue.WithOp(op, noTicker(name))
	}
	return &k.Ticker, nil
}

// ListTickers implements queue.Store. The cursor is the last name of the page before.
func (s *Store) ListTickers(ctx context.Context, namespace string, p queue.Page) (queue.TickerPage, error) {
	const op = "list tickers"
	page := queue.TickerPage{Tickers: []*queue.Ticker{}}
	p, err := p.Normalize()
	if err != nil {
		return page, queue.WithOp(op, err)
	}
	there := 0 // how many there are, up to one more than the page has room for
	err = s.query(ctx, op, "ticker.page", func(rows pgx.Rows) error {
		k := &storedTicker{}
		page.Tickers = append(page.Tickers, &k.Ticker)
		return k.scan(rows, &there)
	}, namespace, "", p.Offset, p.Limit+1, p.Cursor, queue.MaxPageBytes)
	if err != nil {
		return page, err
	}
	page.Tickers = page.Tickers[:min(len(page.Tickers), p.Limit)]
	if n := len(page.Tickers); n > 0 && n < there {
		page.Next = page.Tickers[n-1].Name
	}
	return page, s.query(ctx, op, "ticker.count", func(rows pgx.Rows) error { return rows.Scan(&page.Count) }, namespace)
}

// UpdateTicker implements queue.Store. A new schedule counts from now, after what was due by the old one has fired, and so
// does one that is resumed: what a pause swallowed is not made up.
func (s *Store) UpdateTicker(ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int) (*queue.Ticker, error) {
	const op = "update ticker"
	var out *queue.Ticker
	f, err := s.inFiring(ctx, op, func(ctx context.Context, t *tx, f *firing) error {
		k, now, err := lockTicker(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		if meta.IfVersion != 0 && meta.IfVersion != k.Version {
			return &queue.Error{
				Kind: queue.KindPrecondition, Subject: "ticker " + name,
				Msg: fmt.Sprintf("has version %d by now, not %d; read it again", k.Version, meta.IfVersion),
			}
		}
		next, err := k.With(meta, maxPayloadBytes)
		if err != nil {
			return err
		}
		if next.Queue != k.Queue {
			if err := s.checkTarget(ctx, &next); err != nil {
				return err
			}
		}
		anew := next.Period != k.Period || next.Cron != k.Cron || next.Timezone != k.Timezone
		if anew && !k.NextAt.IsZero() && !k.NextAt.After(now) {
			if next.Timestamp, err = s.fireLast(ctx, t, f, k, now); err != nil {
				return err
			}
		}
		if anew {
			next.Anchor = now
		}
		if anew || next.Paused != k.Paused {
			if err := plan(&next, now); err != nil {
				return err
			}
		}
		next.Version++
		next.UpdatedAt = now
		out = &next
		t.queue("ticker.update", k.id, next.Period, next.Cron, next.Timezone, next.Queue, []byte(next.Payload), next.Misfire,
			next.MisfireLimit, next.Overlap, next.Paused, timePtr(micros(next.NextAt)), next.Anchor, now)
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.committed(s)
	return out, nil
}

// fireLast fires what is due by a schedule that is about to go, and says which tick is the last now.
func (s *Store) fireLast(ctx context.Context, t *tx, f *firing, k *storedTicker, now time.Time) (time.Time, error) {
	unfinished := false
	err := t.read(ctx, "ticker.unfinished", func(rows pgx.Rows) error { return rows.Scan(&unfinished) }, k.id)
	if err != nil {
		return now, err
	}
	f.now = now
	if err := f.due(k, unfinished); err != nil {
		return now, err
	}
	last := k.Timestamp
	if n := len(f.ticks); n > 0 {
		last = f.ticks[n-1].At
	}
	return last, f.write(ctx, t, s)
}

func lockTicker(ctx context.Context, t *tx, namespace, name string) (*storedTicker, time.Time, error) {
	var k *storedTicker
	var now time.Time
	t.queueRows("ticker.lock", func(rows pgx.Rows) error {
		k = &storedTicker{}
		return k.scan(rows)
	}, namespace, name)
	err := t.read(ctx, "clock", func(rows pgx.Rows) error { return rows.Scan(&now) })
	if err == nil && k == nil {
		err = noTicker(name)
	}
	return k, now.UTC(), err
}

// DeleteTicker implements queue.Store.
func (s *Store) DeleteTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	var out *queue.Ticker
	err := s.inTx(ctx, "delete ticker", func(ctx context.Context, t *tx) error {
		k, _, err := lockTicker(ctx, t, namespace, name)
		if err != nil {
			return err
		}
		out = &k.Ticker
		t.queue("ticker.delete", k.id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
