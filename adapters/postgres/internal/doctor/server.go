package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/migrate"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// The limits of findings about the server: at them a finding becomes a warning or a failure.
const (
	oldestServer     = 140000
	newestServer     = 180000 // the newest major version that pgqueue is tested with
	clockWarn        = 2 * time.Second
	snapshotWarn     = 5 * time.Minute
	snapshotFail     = time.Hour
	snapshotWarnXIDs = 1_000_000 // for holders without a start time
	notifyWarn       = 0.1
	notifyFail       = 0.5
	connectionsWarn  = 0.8
	listenTimeout    = 3 * time.Second
)

var (
	readServer       = Statements.Named("diagnose.server")
	readEncoding     = Statements.Named("diagnose.encoding")
	readRefused      = Statements.Named("diagnose.refused")
	listSettings     = Statements.Named("diagnose.settings")
	readServerClock  = Statements.Named("diagnose.clock")
	findOldSnapshot  = Statements.Named("diagnose.snapshot")
	readNotifyUsage  = Statements.Named("diagnose.notify")
	countConnections = Statements.Named("diagnose.connections")
)

func (d *diagnosis) server(ctx context.Context) error {
	var version, fsync, pages, commits string
	var number int
	var pid uint32
	ok, err := d.readRow(ctx, "server_version", readServer, []any{&version, &number, &pid, &fsync, &pages, &commits})
	if !ok {
		return err
	}

	switch {
	case number < oldestServer:
		d.report("server_version", queue.LevelFail, version, "pgqueue needs PostgreSQL 14 or later; upgrade the server")
	case number >= newestServer+10000:
		d.report("server_version", queue.LevelWarn, version, "this pgqueue was tested up to PostgreSQL 18; look for a newer pgqueue")
	default:
		d.report("server_version", queue.LevelOK, version, "")
	}

	d.reportUnless(fsync != "off", "fsync", fsync, "a crash of the machine may destroy the database; set fsync = on")
	d.reportUnless(pages != "off", "full_page_writes", pages,
		"a crash of the machine may tear pages; set full_page_writes = on unless the file system cannot tear them")
	d.reportUnless(commits != "off", "synchronous_commit", commits,
		"a crash of PostgreSQL may lose tasks after their creation was acknowledged; set synchronous_commit = on for this role or database")

	d.pooler(pid)
	return nil
}

// pooler finds a pooler by the process id: a pooler invents the id that it reports to its clients, and a query
// returns the id of the server.
func (d *diagnosis) pooler(pid uint32) {
	const advice = "if it pools transactions, say so: --pooler (postgres.WithPooler), and give LISTEN a direct connection: --listen-url (postgres.WithListenURL)"
	switch direct := d.conn.Conn().PgConn().PID() == pid; {
	case direct:
		d.report("pooler", queue.LevelOK, "none", "")
	case d.AroundPooler:
		d.report("pooler", queue.LevelOK, "yes, and LISTEN goes around it", "")
	default:
		d.report("pooler", queue.LevelWarn, "yes", advice)
	}
}

// encoding reports a database encoding that cannot hold all texts.
func (d *diagnosis) encoding(ctx context.Context) error {
	const name = "encoding"
	var encoding string
	ok, err := d.readRow(ctx, name, readEncoding, []any{&encoding})
	if !ok {
		return err
	}

	level, advice := queue.LevelOK, migrate.EncodingAdvice(encoding)
	switch {
	case encoding == "SQL_ASCII":
		level = queue.LevelWarn
	case advice != "":
		level = queue.LevelFail
	}
	d.report(name, level, encoding, advice)
	return nil
}

// settings reports settings of the role, the database and the server that pgqueue cannot override. It refuses some of
// them. Where it may state nothing, as behind a pooler, others end its calls early.
func (d *diagnosis) settings(ctx context.Context) error {
	const name = "role_settings"
	var setting, value, source string
	var refused, odd, unvacuumed, damaging []string
	ok, err := d.readRows(ctx, name, listSettings, []any{&setting, &value, &source}, func() error {
		text := setting + " = " + value
		switch {
		case txn.RefusesSetting(setting, value):
			refused = append(refused, text)
		case stopsVacuum(setting, value):
			unvacuumed = append(unvacuumed, text)
		case hidesDamage(setting, value):
			damaging = append(damaging, text)
		// The role and the database set nothing here.
		case source == "default" || source == "client" || source == "session" || source == "override":
		case isOddSetting(setting, value):
			odd = append(odd, text)
		}
		return nil
	})

	if !ok {
		return err
	}

	d.reportList("autovacuum", unvacuumed, "on", "dead rows pile up and every retain slows down; "+
		"set autovacuum = on, track_counts = on and autovacuum_naptime to at most 10 minutes, for the role and the database too")
	d.reportList("damaged_pages", damaging, "end in an error", "the server goes on after a fault of the disk, and tasks are lost without an error; set it off")

	switch {
	case len(refused) > 0:
		d.report(name, queue.LevelFail, strings.Join(append(refused, odd...), ", "),
			"pgqueue cannot work with that and may not change it: alter role … (or database …) reset it")
	case len(odd) > 0:
		d.report(name, queue.LevelWarn, strings.Join(odd, ", "),
			"time-outs cut calls short behind a pooler, isolation bends what runs in transactions of your own, a path before pg_catalog bends operators: alter role … reset it")
	default:
		d.report(name, queue.LevelOK, "nothing odd", "")
	}
	return nil
}

// mostNaptime is the longest pause of autovacuum, in seconds, at which the hot tables stay small.
const mostNaptime = 600

// stopsVacuum reports whether autovacuum misses dead rows by a setting.
func stopsVacuum(setting, value string) bool {
	switch setting {
	case "autovacuum", "track_counts": // without counts of rows autovacuum sees no table to work on
		return value == "off"
	case "autovacuum_naptime":
		seconds, err := strconv.Atoi(value)
		return err == nil && seconds > mostNaptime
	}
	return false
}

// hidesDamage reports whether the server goes on by a setting where it must stop at a damaged or unwritten page.
func hidesDamage(setting, value string) bool {
	switch setting {
	case "zero_damaged_pages", "ignore_checksum_failure", "ignore_invalid_pages", "data_sync_retry":
		return value == "on"
	}
	return false
}

// isOddSetting reports whether a setting of the role changes calls that cannot state it themselves.
func isOddSetting(setting, value string) bool {
	switch setting {
	case "idle_in_transaction_session_timeout", "idle_session_timeout":
		return false
	case "old_snapshot_threshold": // its errors end long calls
		return value != "-1"
	case "search_path":
		return txn.PathHidesCatalog(value)
	case "default_transaction_isolation":
		return value != "read committed"
	}
	return strings.HasSuffix(setting, "_timeout") && value != "0"
}

func (d *diagnosis) schema(ctx context.Context) error {
	const name = "schema"
	v, err := d.Migrator.ReadVersion(ctx, d.conn)
	if err != nil {
		// A schema without migrations has no table of versions: that is version 0. A missing privilege is a finding.
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || !txn.IsSentByServer(err) || pg.Code == sqlstate.InsufficientPrivilege {
			return d.reportUnknown(name, err)
		}
	} else if v.Applied == 0 {
		d.report(name, queue.LevelFail, d.Schema+", no version", d.Migrator.UnrecordedFault().Msg)
		return nil
	}

	value := fmt.Sprintf("%s, version %d of %d", d.Schema, v.Applied, migrate.SchemaVersion())
	fault, incompatible := errors.AsType[*queue.Error](d.Migrator.VersionFault(v.Applied, v.CompatibleFrom))
	switch {
	case incompatible:
		d.report(name, queue.LevelFail, value, fault.Msg)
	case v.Applied > migrate.SchemaVersion():
		d.report(name, queue.LevelWarn, value, "this program is older than the schema and goes on working with it; upgrade the program")
	default:
		d.report(name, queue.LevelOK, value, "")
	}
	return nil
}

// restored reports the gaps of a restore.
func (d *diagnosis) restored(ctx context.Context) error {
	const name = "restored_rows"
	gaps, err := d.Migrator.FindGaps(ctx, d.conn)
	switch {
	case err != nil:
		return d.reportUnknown(name, err)
	case gaps.Any():
		d.report(name, queue.LevelFail, gaps.String(), "run: pgqueue migrate up; after a restore to an earlier moment: pgqueue migrate after-restore")
	default:
		d.report(name, queue.LevelOK, "all there", "")
	}
	return nil
}

func (d *diagnosis) clock(ctx context.Context) error {
	const name = "clock"
	var there time.Time
	sent := time.Now()
	ok, err := d.readRow(ctx, name, readServerClock, []any{&there})
	if !ok {
		return err
	}

	// The server read its clock between sent and the answer. The middle of that time is wrong by at most took/2.
	took := time.Since(sent)
	offset := there.Sub(sent.Add(took / 2))
	level := queue.LevelOK
	if offset.Abs()-took/2 > clockWarn {
		level = queue.LevelWarn
	}

	d.report(name, level, fmt.Sprintf("the database's clock is %v ahead of this machine's", offset.Round(time.Millisecond)),
		"only the database's clock counts, so nothing breaks; but times given by this machine's programs are off: synchronise both clocks")
	return nil
}

// snapshot reports the holder of the oldest snapshot, which keeps vacuum from removing dead rows.
func (d *diagnosis) snapshot(ctx context.Context) error {
	const name = "oldest_snapshot"
	var kind, holder string
	var xids int64
	var seconds *float64
	err := d.conn.QueryRow(ctx, d.DB.Text.Of(findOldSnapshot)).Scan(&kind, &holder, &xids, &seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		d.report(name, queue.LevelOK, "none", "")
		return nil
	}
	if err != nil {
		return d.reportUnknown(name, err)
	}

	value := fmt.Sprintf("%s (%s), %d transactions old", kind, holder, xids)
	level := queue.LevelOK
	if seconds != nil {
		level = grade(*seconds, snapshotWarn.Seconds(), snapshotFail.Seconds())
		value += ", for " + formatSeconds(*seconds)
	} else if xids > snapshotWarnXIDs { // a replication slot, for example, has no start time
		level = queue.LevelWarn
	}

	d.report(name, level, value, "vacuum cannot remove rows that died since then, anywhere in the database; end that "+kind+
		", and set idle_in_transaction_session_timeout against the next")
	return nil
}

func (d *diagnosis) notifyQueue(ctx context.Context) error {
	const name = "notify_queue"
	var usage float64
	ok, err := d.readRow(ctx, name, readNotifyUsage, []any{&usage})
	if !ok {
		return err
	}
	d.report(name, grade(usage, notifyWarn, notifyFail), fmt.Sprintf("%.1f %% full", 100*usage),
		"some session listens and sits in a transaction; when the queue is full, every NOTIFY fails: end that session")
	return nil
}

func (d *diagnosis) connections(ctx context.Context) error {
	const name = "connections"
	var used, most int
	ok, err := d.readRow(ctx, name, countConnections, []any{&used, &most})
	if !ok {
		return err
	}

	level, pool := queue.LevelOK, d.DB.Pool.Stat()
	// The pool may still grow to its maximum: these connections count as used.
	if more := int(pool.MaxConns() - pool.TotalConns()); float64(used) > connectionsWarn*float64(most) || used+more > most {
		level = queue.LevelWarn
	}

	d.report(name, level, fmt.Sprintf("%d of %d, this pool %d of %d", used, most, pool.TotalConns(), pool.MaxConns()),
		"raise max_connections, lower the pools of the programs, or put a pooler between")
	return nil
}

// listen sends a notification to itself and waits for it. An accepted LISTEN proves nothing: a pooler may drop the
// notifications.
func (d *diagnosis) listen(ctx context.Context) error {
	const name = "listen"
	conn, err := d.Listen(ctx)
	if err != nil {
		d.report(name, queue.LevelFail, err.Error(), "see that the connection for LISTEN is right; until then tasks are found by polling only")
		return nil
	}
	defer txn.Disconnect(ctx, conn)
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()

	sent := time.Now()
	payload, err := d.Notify(ctx, "diagnose "+sent.Format(time.RFC3339Nano))
	for err == nil {
		var received *pgconn.Notification
		if received, err = conn.WaitForNotification(ctx); err == nil && received.Payload == payload {
			d.report(name, queue.LevelOK, "delivers, after "+time.Since(sent).Round(100*time.Microsecond).String(), "")
			return nil
		}
	}

	d.report(name, queue.LevelFail, "does not deliver: "+err.Error(),
		"behind a transaction pooler give a direct connection: --listen-url (postgres.WithListenURL); until then tasks are found by polling only")
	return nil
}
