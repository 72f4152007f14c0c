package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// storedTicker is a ticker as stored, together with its results in a transaction that fires it.
type storedTicker struct {
	id int32
	queue.Ticker
	lastAt, nextAt *time.Time // as stored; NULL stands for the zero time of Timestamp and NextAt

	unfinished bool   `col:"-"` // the task of the last tick is unfinished and the ticker skips then
	lastQueue  *int32 `col:"-"` // queue of the task that this transaction made last
	lastTask   *int64 `col:"-"` // id of that task
	err        error  `col:"-"` // reason why the ticker does not fire or makes no task
}

// maxFaultBytes limits the stored text of a ticker's fault.
const maxFaultBytes = 1024

// recordFault records the reason why k does not fire or makes no task.
func (k *storedTicker) recordFault(err error) { k.err = err }

// encodeFault returns the text of the fault, cut to maxFaultBytes. It is valid UTF-8 without NULs, which text columns
// refuse.
func (k *storedTicker) encodeFault() string {
	if k.err == nil {
		return ""
	}
	text := strings.ToValidUTF8(strings.ReplaceAll(k.err.Error(), "\x00", " "), "?")
	if len(text) > maxFaultBytes {
		text = strings.ToValidUTF8(text[:maxFaultBytes], "")
	}
	return text
}

// describeFault returns the fault of k for the report of background work.
func (k *storedTicker) describeFault() queue.Fault {
	return queue.Fault{Namespace: k.Namespace, Subject: "ticker " + k.Name, Err: k.err, Known: k.Fault == k.encodeFault()}
}

// tickerColumns are the columns of a ticker.
var tickerColumns = table.Of[storedTicker]().Without("timestamp")

// tickerSettings are the columns that a caller sets, and the next time that follows from them.
var tickerSettings = tickerColumns.Only("period", "cron", "timezone", "queue", "payload", "misfire", "misfire_limit", "overlap", "paused",
	"next_at")

// listTickerWithoutPayload returns the column list of a ticker with an empty payload. It serves steps that read many
// tickers without their payload.
func listTickerWithoutPayload(alias string) string {
	return strings.Replace(tickerColumns.List(alias), alias+".payload", "'{}'::json", 1)
}

// makeTickerArgs returns args and then the settings of a ticker as arguments.
func makeTickerArgs(k queue.Ticker, args ...sqltext.Arg) []sqltext.Arg {
	row := &storedTicker{Ticker: k, nextAt: timePointer(truncateToMicros(k.NextAt))}
	args = append(args, arg("payload_bytes", len(k.Payload)))
	return tickerSettings.Values(args, row)
}

// scanTickerRow reads the columns of before, followed by those of a ticker.
func (k *storedTicker) scanTickerRow(rows pgx.Rows, before ...any) error {
	err := rows.Scan(tickerColumns.Targets(before, k)...)

	k.Timestamp, k.NextAt = timeFromPointer(k.lastAt), timeFromPointer(k.nextAt)
	k.Anchor, k.CreatedAt, k.UpdatedAt = k.Anchor.UTC(), k.CreatedAt.UTC(), k.UpdatedAt.UTC()
	return err
}

// The statements on tickers.
var (
	insertTicker  = statement("ticker.insert")
	pageTickers   = statement("ticker.page")
	countTickers  = statement("ticker.count")
	lockTickerRow = statement("ticker.lock")
	updateTicker  = statement("ticker.update")
	deleteTicker  = statement("ticker.delete")
)

// planNextTick sets the next time of k to the first nominal time after settled; zero for a paused ticker.
func planNextTick(k *queue.Ticker, settled time.Time) error {
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
func checkTarget(ctx context.Context, t *txn.Tx, k *queue.Ticker) error {
	if k.Queue == "" {
		return nil
	}
	queues := readQueuesByName(t, k.Namespace, []string{k.Queue})
	if err := t.Flush(ctx); err != nil {
		return err
	}
	if queues[k.Queue] == nil {
		return queue.NotFoundQueue(k.Queue)
	}
	return nil
}

// CreateTicker implements queue.Store. The database's clock is the anchor of the schedule.
func (s *Store) CreateTicker(ctx context.Context, k queue.Ticker) (*queue.Ticker, error) {
	const op = "create ticker"
	made := false
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		made = false
		if err := checkTarget(ctx, t, &k); err != nil {
			return err
		}
		if err := t.Query(ctx, readClock, func(rows pgx.Rows) error { return rows.Scan(&k.Anchor) }); err != nil {
			return err
		}

		k.Anchor = k.Anchor.UTC()
		k.CreatedAt, k.UpdatedAt = k.Anchor, k.Anchor
		if err := planNextTick(&k, k.Anchor); err != nil {
			return err
		}

		t.QueueQuery(insertTicker, func(pgx.Rows) error {
			made = true
			return nil
		}, makeTickerArgs(k, arg("namespace", k.Namespace), arg("name", k.Name), arg("now", k.Anchor))...)
		return nil
	})
	if err != nil {
		return nil, err
	}

	// The insert returns no row if the name is taken.
	if !made {
		return nil, &queue.Error{Op: op, Kind: queue.KindAlreadyExists, Subject: "ticker " + k.Name, Msg: "a ticker of that name exists; choose another name or update it"}
	}

	return &k, nil
}

// readTickerByName returns a ticker, or nil for an unknown name.
func (s *Store) readTickerByName(ctx context.Context, op, namespace, name string) (*storedTicker, error) {
	var k *storedTicker
	err := s.db.Query(ctx, op, pageTickers, func(rows pgx.Rows) error {
		k = &storedTicker{}
		return k.scanTickerRow(rows, nil)
	}, arg("namespace", namespace), arg("name", name), arg("after", ""), arg("offset", 0), arg("limit", 1), arg("bytes", queue.MaxPageBytes))
	return k, err
}

// GetTicker implements queue.Store.
func (s *Store) GetTicker(ctx context.Context, namespace, name string) (*queue.Ticker, error) {
	const op = "get ticker"
	k, err := s.readTickerByName(ctx, op, namespace, name)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, queue.WithOp(op, queue.NotFoundTicker(name))
	}
	return &k.Ticker, nil
}

// ListTickers implements queue.Store. The cursor is the last name of the previous page.
func (s *Store) ListTickers(ctx context.Context, namespace string, p queue.Page) (queue.TickerPage, error) {
	const op = "list tickers"
	page := queue.TickerPage{Tickers: []*queue.Ticker{}}
	p, err := p.Normalize()
	if err != nil {
		return page, queue.WithOp(op, err)
	}

	there := 0 // number of tickers from the cursor on, at most one above the limit of the page
	err = s.db.Query(ctx, op, pageTickers, func(rows pgx.Rows) error {
		k := &storedTicker{}
		page.Tickers = append(page.Tickers, &k.Ticker)
		return k.scanTickerRow(rows, &there)
	}, arg("namespace", namespace), arg("name", ""), arg("after", p.Cursor), arg("offset", p.Offset), arg("limit", p.Limit+1),
		arg("bytes", queue.MaxPageBytes))
	if err != nil {
		return page, err
	}

	// The byte limit may have shortened the page, so the number decides about a next page.
	page.Tickers = page.Tickers[:min(len(page.Tickers), p.Limit)]
	if n := len(page.Tickers); n > 0 && n < there {
		page.Next = page.Tickers[n-1].Name
	}

	err = s.db.Query(ctx, op, countTickers, func(rows pgx.Rows) error { return rows.Scan(&page.Count) }, arg("namespace", namespace))
	return page, err
}

// UpdateTicker implements queue.Store. A new schedule counts from now, after all ticks that were due by the old one
// have fired. A resumed schedule also counts from now: the times of the pause do not fire. A ticker that cannot fire is
// updated nevertheless, because a repair must not depend on the faulty schedule.
func (s *Store) UpdateTicker(ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int) (*queue.Ticker, error) {
	const op = "update ticker"
	fire := meta.Period != nil || meta.Cron != nil || meta.Timezone != nil
	if fire {
		var err error
		if fire, err = s.fireBacklog(ctx, op, namespace, name); err != nil {
			return nil, err
		}
	}

	// Ticks that the old schedule made due meanwhile may fail; the update then goes without them.
	out, err := s.updateTicker(ctx, namespace, name, meta, maxPayloadBytes, fire)
	if fire && isFaultOfRows(ctx, err) {
		out, err = s.updateTicker(ctx, namespace, name, meta, maxPayloadBytes, false)
	}
	return out, err
}

// fireBacklog fires the due ticks of a ticker in bounded steps. It reports whether the ticker can fire.
func (s *Store) fireBacklog(ctx context.Context, op, namespace, name string) (bool, error) {
	k, err := s.readTickerByName(ctx, op, namespace, name)
	if err != nil || k == nil {
		return false, err
	}
	for more := true; more; {
		one, err := s.fireOneTicker(ctx, op, k)
		if err != nil || len(one.Faults) > 0 {
			return false, err
		}
		more = one.More
	}
	return true, nil
}

// updateTicker makes one attempt of UpdateTicker. With fire set it also fires the ticks that became due by the old
// schedule since fireBacklog.
func (s *Store) updateTicker(
	ctx context.Context, namespace, name string, meta queue.TickerMeta, maxPayloadBytes int, fire bool,
) (*queue.Ticker, error) {
	const op = "update ticker"
	var out *queue.Ticker
	f, err := s.runFiring(ctx, op, func(ctx context.Context, t *txn.Tx, f *firing) error {
		k, now, err := lockTickerByName(ctx, t, namespace, name)
		if err != nil {
			return err
		}

		next, err := changeTicker(ctx, t, k, meta, maxPayloadBytes)
		if err != nil {
			return err
		}

		// The old schedule ends with its last due tick; the new one starts at now.
		anew := !next.SameSchedule(&k.Ticker)
		if anew && fire {
			if err := f.readDueTickers(ctx, t, readDueTicker, arg("id", k.id)); err != nil {
				return err
			}
			if err := f.writeFiring(ctx, t, s); err != nil {
				return err
			}
			if n := len(f.ticks); n > 0 {
				// next was made before these ticks fired.
				next.Timestamp = f.ticks[n-1].At
			}
		}
		if err := planUpdatedTicker(&next, anew, k.Paused, now); err != nil {
			return err
		}

		next.Version++
		next.UpdatedAt = now
		next.Fault = ""
		out = &next
		t.Queue(updateTicker, makeTickerArgs(next, arg("id", k.id), arg("anchor", next.Anchor), arg("now", now), arg("fault", next.Fault))...)
		return nil
	})
	if err != nil {
		return nil, err
	}

	f.publishFiring(s)
	return out, nil
}

// changeTicker returns the ticker k with the values of meta. It checks the version, and the queue if that changes.
func changeTicker(ctx context.Context, t *txn.Tx, k *storedTicker, meta queue.TickerMeta, maxPayloadBytes int) (queue.Ticker, error) {
	if err := queue.CheckVersion("ticker "+k.Name, k.Version, queue.IfVersion(meta.IfVersion)); err != nil {
		return queue.Ticker{}, err
	}
	next, err := k.With(meta, maxPayloadBytes)
	if err != nil || next.Queue == k.Queue {
		return next, err
	}
	return next, checkTarget(ctx, t, &next)
}

// planUpdatedTicker plans the next tick of a ticker that is updated now. A schedule that begins anew, or after a pause,
// counts from now.
func planUpdatedTicker(next *queue.Ticker, anew, wasPaused bool, now time.Time) error {
	if anew {
		next.Anchor = now
	}
	if next.Paused {
		next.NextAt = time.Time{}
		return nil
	}
	if anew || wasPaused {
		return planNextTick(next, now)
	}
	return nil
}

// lockTickerByName reads a ticker and the time of the database. It excludes concurrent changes of the ticker until the
// transaction ends.
func lockTickerByName(ctx context.Context, t *txn.Tx, namespace, name string) (*storedTicker, time.Time, error) {
	var k *storedTicker
	var now time.Time
	t.QueueQuery(lockTickerRow, func(rows pgx.Rows) error {
		k = &storedTicker{}
		return k.scanTickerRow(rows)
	}, arg("namespace", namespace), arg("name", name))
	err := t.Query(ctx, readClock, func(rows pgx.Rows) error { return rows.Scan(&now) })
	if err == nil && k == nil {
		err = queue.NotFoundTicker(name)
	}
	return k, now.UTC(), err
}

// DeleteTicker implements queue.Store.
func (s *Store) DeleteTicker(ctx context.Context, namespace, name string, only ...queue.IfVersion) (*queue.Ticker, error) {
	var out *queue.Ticker
	err := s.db.Run(ctx, "delete ticker", func(ctx context.Context, t *txn.Tx) error {
		k, _, err := lockTickerByName(ctx, t, namespace, name)
		if err != nil {
			return err
		}

		if err := queue.CheckVersion("ticker "+name, k.Version, only...); err != nil {
			return err
		}

		out = &k.Ticker
		t.Queue(deleteTicker, arg("id", k.id))
		return nil
	})
	if err != nil {
		return nil, err
	}

	return out, nil
}
