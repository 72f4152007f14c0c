package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The limits of findings about tables and background work: at them a finding becomes a warning or a failure.
const (
	deadWarn       = 200_000
	partitionsWarn = 1000
	lateWarn       = time.Minute
	lateFail       = 10 * time.Minute

	mostNamed       = 5      // tickers that a finding names
	tickersExamined = 10_000 // tickers with a schedule that is read
	aheadExamined   = 10_000 // delayed tasks, the latest first
	groupsExamined  = 10_000 // states of groups
)

var (
	listTables      = Statements.Named("diagnose.tables")
	countPartitions = Statements.Named("diagnose.partitions")
	listTickers     = Statements.Named("diagnose.tickers")
	readLateness    = Statements.Named("diagnose.background")
	countAhead      = Statements.Named("diagnose.ahead")
	countLostPlaces = Statements.Named("diagnose.groups")
	readAuditRights = Statements.Named("diagnose.audit")
	listTriggers    = Statements.Named("diagnose.triggers")
)

// hotTables lists the tables in which dead rows slow down the work.
var hotTables = []string{"ready", "delayed", "lease", "state", "queue_count", "task_key"}

func (d *diagnosis) tables(ctx context.Context) error {
	var table string
	var bytes, live, dead int64
	var disabled bool

	var total int64
	var sizes, crowded, off []string
	ok, err := d.readRows(ctx, "size", listTables, []any{&table, &bytes, &live, &dead, &disabled}, func() error {
		total += bytes
		if len(sizes) < 4 {
			sizes = append(sizes, table+" "+formatBytes(bytes))
		}
		// Dead rows are normal up to a point: they matter where they outnumber the live rows.
		if slices.Contains(hotTables, table) && dead > deadWarn && dead > live {
			crowded = append(crowded, fmt.Sprintf("%s %d", table, dead))
		}
		if disabled {
			off = append(off, table)
		}
		return nil
	}, arg("schema", d.Schema))
	if !ok {
		return err
	}

	d.report("size", queue.LevelOK, strings.Join(append([]string{"all " + formatBytes(total)}, sizes...), ", "), "")
	d.reportList("dead_rows", crowded, "few",
		"see oldest_snapshot for what may keep vacuum from removing them; else: vacuum "+d.Schema+".TABLE")
	d.reportList("autovacuum_tables", off, "on for all", "alter table "+d.Schema+".TABLE reset (autovacuum_enabled)")
	return nil
}

// reportList adds a finding that has the value none when the list is empty, and else is a warning with the list.
func (d *diagnosis) reportList(name string, list []string, none, advice string) {
	if len(list) == 0 {
		d.report(name, queue.LevelOK, none, "")
		return
	}
	d.report(name, queue.LevelWarn, strings.Join(list, ", "), advice)
}

func (d *diagnosis) partitions(ctx context.Context) error {
	const name = "partitions"
	var all, old int
	ok, err := d.readRow(ctx, name, countPartitions, []any{&all, &old})
	if !ok {
		return err
	}

	value := fmt.Sprintf("%d, of which %d past every retention", all, old)
	switch {
	case old > 0:
		d.report(name, queue.LevelWarn, value,
			"pruning is behind: see that a server or manager runs its background work; an unfinished task keeps its partition")
	case all > partitionsWarn:
		d.report(name, queue.LevelWarn, value, "planning slows down; open the store with a larger WithPartitionSize, or shorten retention")
	default:
		d.report(name, queue.LevelOK, value, "")
	}
	return nil
}

// tickers reports tickers that do not fire: with a fault, with a schedule that this host cannot read, or late.
func (d *diagnosis) tickers(ctx context.Context) error {
	const name = "tickers"
	var k queue.Ticker
	var late float64

	var all int
	var faulty, slow []string
	ok, err := d.readRows(ctx, name, listTickers, []any{&k.Namespace, &k.Name, &k.Period, &k.Cron, &k.Timezone, &k.Fault, &late}, func() error {
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
			slow = append(slow, fmt.Sprintf("%s of %s, %s late", k.Name, k.Namespace, formatSeconds(late)))
		}
		return nil
	}, arg("limit", tickersExamined))

	if !ok {
		return err
	}

	examined := strconv.Itoa(all)
	if all == tickersExamined {
		examined = "the first " + examined // the others exist, but their schedules are not read
	}

	switch {
	case len(faulty) > 0:
		d.report(name, queue.LevelFail, fmt.Sprintf("%d of %s do not fire: %s", len(faulty), examined, joinFirst(faulty)),
			"mend each with pgqueue update-ticker (--timezone, --cron, --queue), or pause it; a zone that a newer time zone database has "+
				"needs that database on every server's host")
	case len(slow) > 0:
		d.report(name, queue.LevelWarn, fmt.Sprintf("%d of %s are late: %s", len(slow), examined, joinFirst(slow)),
			"see that a server or manager runs its background work, and look in its log")
	default:
		d.report(name, queue.LevelOK, examined+", none late", "")
	}
	return nil
}

// joinFirst returns the first mostNamed entries of a list and the number of the others.
func joinFirst(list []string) string {
	if len(list) <= mostNamed {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:mostNamed], "; "), len(list)-mostNamed)
}

// background reports the delays of promoter, rescuer and expirer. The rows show the delay of an agent that fails, in
// any process.
func (d *diagnosis) background(ctx context.Context) error {
	const name = "background_work"
	agents := []struct {
		chore queue.Chore
		late  *float64 // seconds; nil without work
	}{{chore: queue.ChorePromote}, {chore: queue.ChoreRescue}, {chore: queue.ChoreExpire}}
	ok, err := d.readRow(ctx, name, readLateness, []any{&agents[0].late, &agents[1].late, &agents[2].late})
	if !ok {
		return err
	}

	worst := 0.0
	var behind []string
	for _, agent := range agents {
		if agent.late != nil && *agent.late > lateWarn.Seconds() {
			behind = append(behind, fmt.Sprintf("%s is %s behind", agent.chore, formatSeconds(*agent.late)))
			worst = max(worst, *agent.late)
		}
	}

	value := "promote, rescue and expire are on time"
	if len(behind) > 0 {
		value = strings.Join(behind, ", ")
	}
	d.report(name, grade(worst, lateWarn.Seconds(), lateFail.Seconds()), value,
		"see that a server or manager runs its background work; its log and /readyz?verbose say what fails")
	return nil
}

// timesAhead reports times that were written while the clock of the database was ahead of its present time.
func (d *diagnosis) timesAhead(ctx context.Context) error {
	const name = "times_ahead"
	var leases, delayed, tickers int
	ok, err := d.readRow(ctx, name, countAhead, []any{&leases, &delayed, &tickers}, arg("limit", aheadExamined))
	if !ok {
		return err
	}
	if leases+delayed+tickers == 0 {
		d.report(name, queue.LevelOK, "none", "")
		return nil
	}

	d.report(name, queue.LevelWarn, fmt.Sprintf("%d leases, %d delayed tasks and %d tickers are of a clock that was ahead of now", leases, delayed, tickers),
		"the database's clock has gone back: tickers are planned anew within a minute of background work; leases and delays last until the "+
			"clock is there again, unless heartbeats, cancel or snooze move them; see docs/operations.md")
	return nil
}

// groups reports places of groups that ended tasks keep: such a group may wait for ever, until the auditor of groups has been there.
func (d *diagnosis) groups(ctx context.Context) error {
	const name = "groups"
	var lost int
	ok, err := d.readRow(ctx, name, countLostPlaces, []any{&lost}, arg("limit", groupsExamined))
	if !ok {
		return err
	}
	if lost == 0 {
		d.report(name, queue.LevelOK, "no place is lost", "")
		return nil
	}

	d.report(name, queue.LevelWarn, fmt.Sprintf("%d tasks that have ended keep places of their groups, as after changes by hand", lost),
		"see that a server or manager runs its background work, which frees them within minutes")
	return nil
}

// audit notes a role that may change or remove entries of the audit: the roles of roles.sql may not. The level
// is OK, because the owner of an installation for one user has all rights.
func (d *diagnosis) audit(ctx context.Context) error {
	const name = "audit"
	var role string
	may := false
	ok, err := d.readRows(ctx, name, readAuditRights, []any{&role, &may}, func() error { return nil })
	switch {
	case !ok:
		return err
	case may:
		d.report(name, queue.LevelOK, fmt.Sprintf("the role %s may change and remove entries; for an audit that a stolen connection string cannot change, connect servers as a role of deploy/sql/roles.sql", role), "")
	default:
		d.report(name, queue.LevelOK, fmt.Sprintf("the role %s can only add entries", role), "")
	}
	return nil
}

// triggersNamed bounds the triggers that a finding names.
const triggersNamed = 5

// triggers warns of triggers and rules on the tables: pgqueue has none, and each runs with the rights of the statement.
func (d *diagnosis) triggers(ctx context.Context) error {
	const name = "triggers"
	var trigger string
	var named []string
	ok, err := d.readRows(ctx, name, listTriggers, []any{&trigger}, func() error {
		named = append(named, trigger)
		return nil
	}, arg("schema", d.Schema), arg("limit", triggersNamed))
	if !ok {
		return err
	}
	if len(named) == 0 {
		d.report(name, queue.LevelOK, "the tables have none", "")
		return nil
	}

	d.report(name, queue.LevelWarn, "the tables have triggers or rules: "+strings.Join(named, ", "),
		"each runs with the rights of the role that writes the table, slows writes and can lose tasks; drop those that you did not make, and read Triggers in security.md")
	return nil
}
