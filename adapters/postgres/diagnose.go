package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.Diagnoser = (*Store)(nil)

// The limits of findings: at them a finding becomes a warning or a failure.
const (
	oldestServer     = 140000
	newestServer     = 180000 // the newest major version that pgqueue is tested with
	clockWarn        = 2 * time.Second
	snapshotWarn     = 5 * time.Minute
	snapshotFail     = time.Hour
	snapshotWarnXIDs = 1_000_000 // for holders without a start time
	deadWarn         = 200_000
	notifyWarn       = 0.1
	notifyFail       = 0.5
	connectionsWarn  = 0.8
	listenPatience   = 3 * time.Second
	partitionsWarn   = 1000
	examinePatience  = 10 * time.Second
)

// hotTables lists the tables in which dead rows slow down the work.
var hotTables = []string{"ready", "delayed", "lease", "state", "queue_count", "task_key"}

// Diagnose implements queue.Diagnoser. A fact that it cannot read, for lack of a privilege for example, is a finding
// too. An error means that the database cannot be reached. It changes nothing. It reads all rows of waiting and held
// tasks, in steps: some seconds for a million.
func (s *Store) Diagnose(ctx context.Context) ([]queue.Finding, error) {
	conn, err := s.diagnoseConn(ctx)
	if err != nil {
		return nil, translateError("diagnose", err)
	}
	d := &diagnosis{store: s, conn: conn}

	// The diagnosis holds its connection only while it needs it: the test of LISTEN uses the pool.
	for _, look := range []func(context.Context) error{
		d.server, d.encoding, d.settings, d.schema, d.restored, d.clock, d.snapshot, d.tables, d.notifyQueue, d.connections,
		d.partitions, d.tickers, d.background, d.ahead,
	} {
		if err := d.bounded(ctx, look); err != nil {
			conn.Release()
			return nil, translateError("diagnose", err)
		}
	}
	conn.Release()
	if err := d.contradictions(ctx); err != nil { // each of its steps has a deadline
		return nil, translateError("diagnose", err)
	}

	if err := d.bounded(ctx, d.listen); err != nil {
		return nil, translateError("diagnose", err)
	}
	return d.found, nil
}

// CheckDurability reports whether an acknowledged write survives a crash of PostgreSQL: the settings fsync,
// full_page_writes and synchronous_commit. A server calls it at its start and logs each setting that is off.
func (s *Store) CheckDurability(ctx context.Context) ([]queue.Finding, error) {
	const op = "check durability"
	conn, err := s.diagnoseConn(ctx)
	if err != nil {
		return nil, translateError(op, err)
	}
	defer conn.Release()

	d := &diagnosis{store: s, conn: conn}
	if err := d.bounded(ctx, d.server); err != nil {
		return nil, translateError(op, err)
	}
	return slices.DeleteFunc(d.found, func(f queue.Finding) bool {
		return f.Name != "fsync" && f.Name != "full_page_writes" && f.Name != "synchronous_commit"
	}), nil
}

// diagnoseConn takes a connection of the pool, within the timeout of a call.
func (s *Store) diagnoseConn(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := s.withCallTimeout(ctx)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, &connectError{err}
	}
	return conn, nil
}

// diagnosis collects the findings of one call.
type diagnosis struct {
	store *Store
	conn  *pgxpool.Conn
	found []queue.Finding
}

// say adds a finding. A finding without a fault gets no advice.
func (d *diagnosis) say(name string, level queue.Level, value, advice string) {
	if level == queue.LevelOK {
		advice = ""
	}
	d.found = append(d.found, queue.Finding{Name: name, Level: level, Value: value, Advice: advice})
}

// bounded runs one check with the timeout examinePatience.
func (d *diagnosis) bounded(ctx context.Context, look func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, examinePatience)
	defer cancel()
	return look(ctx)
}

// row reads one row. A refusal of the server becomes the finding name, and ok is false. Only a fault of the
// connection is an error.
func (d *diagnosis) row(ctx context.Context, name, statement string, dst ...any) (ok bool, err error) {
	err = d.conn.QueryRow(ctx, d.store.sql.get(statement)).Scan(dst...)
	return err == nil, d.unknown(name, err)
}

// unknown turns a refusal of the server into a finding. It returns all other errors.
func (d *diagnosis) unknown(name string, err error) error {
	if !isSentByServer(err) {
		return err
	}
	d.say(name, queue.LevelWarn, "not known: "+err.Error(),
		"the role may lack a privilege: grant pg_monitor to it, or run the diagnosis as another")
	return nil
}

func (d *diagnosis) server(ctx context.Context) error {
	var (
		version               string
		number                int
		pid                   uint32
		fsync, pages, commits string
		autovacuum            bool
	)
	ok, err := d.row(ctx, "server_version", "diagnose.server", &version, &number, &pid, &fsync, &pages, &commits, &autovacuum)
	if !ok {
		return err
	}

	switch {
	case number < oldestServer:
		d.say("server_version", queue.LevelFail, version, "pgqueue needs PostgreSQL 14 or later; upgrade the server")
	case number >= newestServer+10000:
		d.say("server_version", queue.LevelWarn, version, "this pgqueue was tested up to PostgreSQL 18; look for a newer pgqueue")
	default:
		d.say("server_version", queue.LevelOK, version, "")
	}

	d.say("fsync", failUnless(fsync != "off"), fsync, "a crash of the machine may destroy the database; set fsync = on")
	d.say("full_page_writes", failUnless(pages != "off"), pages,
		"a crash of the machine may tear pages; set full_page_writes = on unless the file system cannot tear them")
	d.say("synchronous_commit", failUnless(commits != "off"), commits,
		"a crash of PostgreSQL may lose tasks after their creation was acknowledged; set synchronous_commit = on for this role or database")
	d.say("autovacuum", failUnless(autovacuum), onOff(autovacuum),
		"dead rows pile up and every retain slows down; set autovacuum = on and track_counts = on")

	d.pooler(pid)
	return nil
}

// pooler finds a pooler by the process id: a pooler invents the id that it reports to its clients, and a query
// returns the id of the server.
func (d *diagnosis) pooler(pid uint32) {
	o := d.store.opt
	const both = "if it pools transactions, say so: --pooler (postgres.WithPooler), and give LISTEN a direct connection: --listen-url (postgres.WithListenURL)"
	switch behind := d.conn.Conn().PgConn().PID() != pid; {
	case !behind:
		d.say("pooler", queue.LevelOK, "none", "")
	case o.pooler && o.listenURL != "":
		d.say("pooler", queue.LevelOK, "yes, and LISTEN goes around it", "")
	default:
		d.say("pooler", queue.LevelWarn, "yes", both)
	}
}

// encoding reports a database encoding that cannot hold all texts.
func (d *diagnosis) encoding(ctx context.Context) error {
	const name = "encoding"
	var encoding string
	ok, err := d.row(ctx, name, "diagnose.encoding", &encoding)
	if !ok {
		return err
	}

	level, advice := queue.LevelOK, encodingAdvice(encoding)
	switch {
	case encoding == "SQL_ASCII":
		level = queue.LevelWarn
	case advice != "":
		level = queue.LevelFail
	}
	d.say(name, level, encoding, advice)
	return nil
}

// settings reports settings of the role and the database that pgqueue cannot override. It refuses some of them. Where
// it may state nothing, as behind a pooler, others end its calls early.
func (d *diagnosis) settings(ctx context.Context) error {
	const name = "role_settings"
	rows, err := d.conn.Query(ctx, d.store.sql.get("diagnose.settings"))
	if err != nil {
		return d.unknown(name, err)
	}

	var bad, odd []string
	var setting, value, source string
	_, err = pgx.ForEachRow(rows, []any{&setting, &value, &source}, func() error {
		text := setting + " = " + value
		switch {
		case refusesSetting(setting, value):
			bad = append(bad, text)

		// The role and the database set nothing here.
		case source == "default" || source == "client" || source == "session" || source == "override":
		case strings.HasSuffix(setting, "_timeout") && value != "0" && setting != "idle_in_transaction_session_timeout" && setting != "idle_session_timeout":
			odd = append(odd, text)
		case setting == "search_path" && pathHidesCatalog(value):
			odd = append(odd, text)
		case setting == "default_transaction_isolation" && value != "read committed":
			odd = append(odd, text)
		}
		return nil
	})

	switch {
	case err != nil:
		return d.unknown(name, err)
	case len(bad) > 0:
		d.say(name, queue.LevelFail, strings.Join(append(bad, odd...), ", "),
			"pgqueue cannot work with that and may not change it: alter role … (or database …) reset it")
	case len(odd) > 0:
		d.say(name, queue.LevelWarn, strings.Join(odd, ", "),
			"time-outs cut calls short behind a pooler, isolation bends what runs in transactions of your own, a path before pg_catalog bends operators: alter role … reset it")
	default:
		d.say(name, queue.LevelOK, "nothing odd", "")
	}
	return nil
}

func (d *diagnosis) schema(ctx context.Context) error {
	var version, compatibleFrom int
	err := d.conn.QueryRow(ctx, d.store.sql.get("migrate.version")).Scan(&version, &compatibleFrom, nil)
	// A schema without migrations has no table of versions: that is version 0. A missing privilege is a finding.
	if err != nil {
		if !isSentByServer(err) {
			return err
		}
		version, compatibleFrom = 0, 0
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
			return d.unknown("schema", err)
		}
	}

	if err == nil && version == 0 {
		d.say("schema", queue.LevelFail, d.store.opt.schema+", no version", d.store.findUnrecorded().Msg)
		return nil
	}

	value := fmt.Sprintf("%s, version %d of %d", d.store.opt.schema, version, SchemaVersion())
	if e, ok := errors.AsType[*queue.Error](d.store.versionFault(version, compatibleFrom)); ok {
		d.say("schema", queue.LevelFail, value, e.Msg)
		return nil
	}
	if version > SchemaVersion() {
		d.say("schema", queue.LevelWarn, value, "this program is older than the schema and goes on working with it; upgrade the program")
		return nil
	}
	d.say("schema", queue.LevelOK, value, "")
	return nil
}

func (d *diagnosis) clock(ctx context.Context) error {
	var there time.Time
	sent := time.Now()

	ok, err := d.row(ctx, "clock", "diagnose.clock", &there)
	if !ok {
		return err
	}

	took := time.Since(sent)

	// The server read its clock between sent and the answer. The middle of that time is wrong by at most took/2.
	offset := there.Sub(sent.Add(took / 2))
	level := queue.LevelOK
	if offset.Abs()-took/2 > clockWarn {
		level = queue.LevelWarn
	}

	d.say("clock", level, fmt.Sprintf("the database's clock is %v ahead of this machine's", offset.Round(time.Millisecond)),
		"only the database's clock counts, so nothing breaks; but times given by this machine's programs are off: synchronise both clocks")
	return nil
}

func (d *diagnosis) snapshot(ctx context.Context) error {
	const name = "oldest_snapshot"
	var (
		kind, holder string
		xids         int64
		seconds      *float64
	)

	err := d.conn.QueryRow(ctx, d.store.sql.get("diagnose.snapshot")).Scan(&kind, &holder, &xids, &seconds)
	if isEmptyResult(err) {
		d.say(name, queue.LevelOK, "none", "")
		return nil
	}
	if err != nil {
		return d.unknown(name, err)
	}

	value := fmt.Sprintf("%s (%s), %d transactions old", kind, holder, xids)
	level, since := queue.LevelOK, time.Duration(0)
	if seconds != nil {
		since = time.Duration(*seconds * float64(time.Second)).Round(time.Second)
		value += ", for " + since.String()
	}

	switch {
	case since > snapshotFail:
		level = queue.LevelFail
	// A replication slot, for example, has no start time: its age in transactions counts.
	case since > snapshotWarn, seconds == nil && xids > snapshotWarnXIDs:
		level = queue.LevelWarn
	}

	d.say(name, level, value, "vacuum cannot remove rows that died since then, anywhere in the database; end that "+kind+
		", and set idle_in_transaction_session_timeout against the next")
	return nil
}

func (d *diagnosis) tables(ctx context.Context) error {
	rows, err := d.conn.Query(ctx, d.store.sql.get("diagnose.tables"), d.store.opt.schema)
	if err != nil {
		return d.unknown("size", err)
	}

	var (
		total            int64
		sizes, dead, off []string
		table            string
		bytes, live, n   int64
		disabled         bool
	)

	_, err = pgx.ForEachRow(rows, []any{&table, &bytes, &live, &n, &disabled}, func() error {
		total += bytes
		if len(sizes) < 4 {
			sizes = append(sizes, table+" "+byteSize(bytes))
		}

		// Dead rows are normal up to a point: they matter where they outnumber the live rows.
		if slices.Contains(hotTables, table) && n > deadWarn && n > live {
			dead = append(dead, fmt.Sprintf("%s %d", table, n))
		}

		if disabled {
			off = append(off, table)
		}
		return nil
	})
	if err != nil {
		return d.unknown("size", err)
	}

	d.say("size", queue.LevelOK, strings.Join(append([]string{"all " + byteSize(total)}, sizes...), ", "), "")
	d.listed("dead_rows", dead, "see oldest_snapshot for what may keep vacuum from removing them; else: vacuum "+d.store.opt.schema+".TABLE")
	d.listed("autovacuum_tables", off, "alter table "+d.store.opt.schema+".TABLE reset (autovacuum_enabled)")
	return nil
}

// listed adds a finding that is OK when the list is empty, and else a warning with the list.
func (d *diagnosis) listed(name string, list []string, advice string) {
	if len(list) == 0 {
		value := "few"
		if name != "dead_rows" {
			value = "on for all"
		}
		d.say(name, queue.LevelOK, value, "")
		return
	}
	d.say(name, queue.LevelWarn, strings.Join(list, ", "), advice)
}

func (d *diagnosis) notifyQueue(ctx context.Context) error {
	var usage float64
	ok, err := d.row(ctx, "notify_queue", "diagnose.notify", &usage)
	if !ok {
		return err
	}
	d.say("notify_queue", grade(usage, notifyWarn, notifyFail), fmt.Sprintf("%.1f %% full", 100*usage),
		"some session listens and sits in a transaction; when the queue is full, every NOTIFY fails: end that session")
	return nil
}

func (d *diagnosis) connections(ctx context.Context) error {
	var used, most int
	ok, err := d.row(ctx, "connections", "diagnose.connections", &used, &most)
	if !ok {
		return err
	}

	level, pool := queue.LevelOK, d.store.pool.Stat()
	// The pool may still grow to its maximum: these connections count as used.
	if more := int(pool.MaxConns() - pool.TotalConns()); float64(used) > connectionsWarn*float64(most) || used+more > most {
		level = queue.LevelWarn
	}

	d.say("connections", level, fmt.Sprintf("%d of %d, this pool %d of %d", used, most, pool.TotalConns(), pool.MaxConns()),
		"raise max_connections, lower the pools of the programs, or put a pooler between")
	return nil
}

func (d *diagnosis) partitions(ctx context.Context) error {
	const name = "partitions"
	var all, old int
	ok, err := d.row(ctx, name, "diagnose.partitions", &all, &old)
	if !ok {
		return err
	}

	value := fmt.Sprintf("%d, of which %d past every retention", all, old)
	switch {
	case old > 0:
		d.say(name, queue.LevelWarn, value,
			"pruning is behind: see that a server or manager runs its background work; an unfinished task keeps its partition")
	case all > partitionsWarn:
		d.say(name, queue.LevelWarn, value, "planning slows down; open the store with a larger WithPartitionSize, or shorten retention")
	default:
		d.say(name, queue.LevelOK, value, "")
	}
	return nil
}

// listen sends a notification to itself and waits for it. An accepted LISTEN proves nothing: a pooler may drop the
// notifications.
func (d *diagnosis) listen(ctx context.Context) error {
	const name = "listen"
	s := d.store
	conn, err := s.openListenConnection(ctx)
	if err != nil {
		d.say(name, queue.LevelFail, err.Error(), "see that the connection for LISTEN is right; until then tasks are found by polling only")
		return nil
	}
	defer closeConnection(ctx, conn)
	ctx, cancel := context.WithTimeout(ctx, listenPatience)
	defer cancel()

	sent := time.Now()

	// This store is the sender, so its own listeners skip the notification.
	mine := s.notify.sender + " " + proofMark + "diagnose " + sent.Format(time.RFC3339Nano)
	err = s.notify.send(ctx, mine)
	for err == nil {
		n, werr := conn.WaitForNotification(ctx)
		if werr == nil && n.Payload == mine {
			d.say(name, queue.LevelOK, "delivers, after "+time.Since(sent).Round(100*time.Microsecond).String(), "")
			return nil
		}
		err = werr
	}

	d.say(name, queue.LevelFail, "does not deliver: "+err.Error(),
		"behind a transaction pooler give a direct connection: --listen-url (postgres.WithListenURL); until then tasks are found by polling only")
	return nil
}

func failUnless(ok bool) queue.Level {
	if ok {
		return queue.LevelOK
	}
	return queue.LevelFail
}

func grade(v, warn, fail float64) queue.Level {
	switch {
	case v > fail:
		return queue.LevelFail
	case v > warn:
		return queue.LevelWarn
	default:
		return queue.LevelOK
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// byteSize formats n bytes for people, in steps of 1,000.
func byteSize(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

func (d *diagnosis) contradictions(ctx context.Context) error {
	found, more, err := d.store.FindContradictions(ctx)
	if err != nil {
		return d.unknown("contradictions", err)
	}
	d.found = append(d.found, findingOf(found, more, "none"))
	return nil
}
