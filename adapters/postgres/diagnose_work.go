package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The delays at which background work is late, and the bounds of the findings.
const (
	lateWarn      = time.Minute
	lateFail      = 10 * time.Minute
	mostTold      = 5      // tickers that a finding names
	mostExamined  = 10_000 // tickers with a schedule that is read
	aheadExamined = 10_000 // delayed tasks, the latest first
)

// tickers reports tickers that do not fire: with a fault, with a schedule that this host cannot read, or late.
func (d *diagnosis) tickers(ctx context.Context) error {
	const name = "tickers"
	rows, err := d.conn.Query(ctx, d.store.sql.get("diagnose.tickers"), mostExamined)
	if err != nil {
		return d.unknown(name, err)
	}

	var (
		k            queue.Ticker
		late         float64
		all          int
		faulty, slow []string
	)

	_, err = pgx.ForEachRow(rows, []any{&k.Namespace, &k.Name, &k.Period, &k.Cron, &k.Timezone, &k.Fault, &late}, func() error {
		all++
		fault := k.Fault

		// A schedule may be readable elsewhere: hosts differ in their time zone databases.
		if _, err := k.Schedule(); err != nil && fault == "" {
			fault = err.Error()
		}

		switch {
		case fault != "":
			faulty = append(faulty, fmt.Sprintf("%s of %s: %s", k.Name, k.Namespace, fault))
		case late > lateWarn.Seconds():
			slow = append(slow, fmt.Sprintf("%s of %s, %s late", k.Name, k.Namespace, time.Duration(late*float64(time.Second)).Round(time.Second)))
		}
		return nil
	})
	if err != nil {
		return d.unknown(name, err)
	}

	examined := strconv.Itoa(all)
	if all == mostExamined {
		examined = "the first " + examined // the others exist, but their schedules are not read
	}

	switch {
	case len(faulty) > 0:
		d.say(name, queue.LevelFail, fmt.Sprintf("%d of %s do not fire: %s", len(faulty), examined, told(faulty)),
			"mend each with pgqueue update-ticker (--timezone, --cron, --queue), or pause it; a zone that a newer time zone database has "+
				"needs that database on every server's host")
	case len(slow) > 0:
		d.say(name, queue.LevelWarn, fmt.Sprintf("%d of %s are late: %s", len(slow), examined, told(slow)),
			"see that a server or manager runs its background work, and look in its log")
	default:
		d.say(name, queue.LevelOK, examined+", none late", "")
	}
	return nil
}

// A finding names the first mostTold entries of a list and the number of the others.
func told(list []string) string {
	if len(list) <= mostTold {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:mostTold], "; "), len(list)-mostTold)
}

// background reports the delays of promoter, rescuer and expirer. The rows show the delay of an agent that fails, in
// any process.
func (d *diagnosis) background(ctx context.Context) error {
	const name = "background_work"
	var promote, rescue, expire *float64
	ok, err := d.row(ctx, name, "diagnose.background", &promote, &rescue, &expire)
	if !ok {
		return err
	}

	level := queue.LevelOK
	var behind []string
	for _, c := range []struct {
		chore queue.Chore
		late  *float64
	}{{queue.ChorePromote, promote}, {queue.ChoreRescue, rescue}, {queue.ChoreExpire, expire}} {
		if c.late == nil || *c.late <= lateWarn.Seconds() {
			continue
		}

		late := time.Duration(*c.late * float64(time.Second)).Round(time.Second)
		behind = append(behind, fmt.Sprintf("%s is %v behind", c.chore, late))
		// The worst delay decides the level.
		if level != queue.LevelFail {
			level = grade(*c.late, lateWarn.Seconds(), lateFail.Seconds())
		}
	}

	value := "promote, rescue and expire are on time"
	if len(behind) > 0 {
		value = strings.Join(behind, ", ")
	}
	d.say(name, level, value, "see that a server or manager runs its background work; its log and /readyz?verbose say what fails")
	return nil
}

// ahead reports times that were written while the clock of the database was ahead of its present time.
func (d *diagnosis) ahead(ctx context.Context) error {
	const name = "times_ahead"
	var leases, delayed, tickers int
	err := d.conn.QueryRow(ctx, d.store.sql.get("diagnose.ahead"), aheadExamined).Scan(&leases, &delayed, &tickers)
	if err != nil {
		return d.unknown(name, err)
	}
	if leases+delayed+tickers == 0 {
		d.say(name, queue.LevelOK, "none", "")
		return nil
	}

	d.say(name, queue.LevelWarn, fmt.Sprintf("%d leases, %d delayed tasks and %d tickers are of a clock that was ahead of now", leases, delayed, tickers),
		"the database's clock has gone back: tickers are planned anew within a minute of background work; leases and delays last until the "+
			"clock is there again, unless heartbeats, cancel or snooze move them; see docs/operations.md")
	return nil
}
