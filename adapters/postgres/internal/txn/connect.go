package txn

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/sqlstate"
)

// Connector prepares all connections of a store that is not on a pool of the caller: the connections of the pool, the
// connection for LISTEN and the connection that creates partitions. Each states the settings that it needs (settings.go).
type Connector struct {
	URL    string
	Pooler bool            // URL leads through a transaction pooler
	Tracer pgx.QueryTracer // may be nil
	Logger *slog.Logger
	Home   string // identifies the only server that connections may lead to; "" = any
}

// Prepare adds to cfg the settings of statedSettings, the tracer and the checks of a new connection. With pooler it
// states only the settings that poolers accept.
func (c *Connector) Prepare(cfg *pgx.ConnConfig, pooler bool) {
	said := map[string]bool{} // names in the connection string
	for name := range cfg.RuntimeParams {
		said[strings.ToLower(name)] = true
	}

	var later []statedSetting // a server older than since refuses the connection for these

	for _, s := range statedSettings {
		name := strings.ToLower(s.name)
		if s.yields && said[name] || pooler && !s.pooled {
			continue
		}
		if s.since > 0 {
			later = append(later, s)
			continue
		}

		// Names of settings ignore case: the connection string may spell this one in another way.
		maps.DeleteFunc(cfg.RuntimeParams, func(have, _ string) bool { return strings.EqualFold(have, name) })
		cfg.RuntimeParams[name] = s.value
	}

	if pooler {
		// A statement that was prepared on one server connection may next meet another one behind the pooler.
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	} else if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "pgqueue"
	}

	cfg.OnNotice = onNotice
	if c.Tracer != nil {
		cfg.Tracer = c.Tracer
	}

	// Newer settings follow when the version of the server is known.
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := EncodingFault(conn); err != nil {
			return err
		}
		if err := stateNewerSettings(ctx, conn, later); err != nil {
			return err
		}
		if err := conn.Exec(ctx, planOnCitus+"; "+keepHeap).Close(); err != nil {
			return err
		}
		return c.checkHome(ctx, conn)
	}
}

// stateNewerSettings states the settings that the server of conn is new enough for.
func stateNewerSettings(ctx context.Context, conn *pgconn.PgConn, settings []statedSetting) error {
	major := majorVersion(conn)
	for _, s := range settings {
		if major < s.since {
			continue
		}
		if err := conn.Exec(ctx, "set "+s.name+" = "+s.value).Close(); err != nil {
			return err
		}
	}
	return nil
}

// readServer identifies the server. A standby has the identity of its primary, and keeps it when it takes over.
const readServer = "select system_identifier::text from pg_control_system()"

// checkHome returns an error unless conn leads to the home of the store.
func (c *Connector) checkHome(ctx context.Context, conn *pgconn.PgConn) error {
	if c.Home == "" {
		return nil
	}
	results, err := conn.Exec(ctx, readServer).ReadAll()
	if err != nil {
		return err
	}
	if got := string(results[0].Rows[0][0]); got != c.Home {
		return &queue.Error{
			Kind: queue.KindUnavailable, Subject: "home",
			Msg: "must be server " + c.Home + ", got server " + got + "; correct the url of the cell, or run pgqueue move-home",
		}
	}
	return nil
}

// planOnCitus restores the default of plan_cache_mode where the server has loaded Citus: it cannot plan an insert of rows from
// arrays for all arguments. The setting of Citus shows it without a look at the catalog.
const planOnCitus = "select set_config('plan_cache_mode', 'auto', false) where current_setting('citus.version', true) is not null"

// keepHeap lets the server's process keep the memory that a statement frees, up to 2 MiB. With the defaults of glibc some processes
// give it back at the end of each statement and fetch it again for the next one, by page faults: an insert then takes three times
// as long. glibc raises the bound when a process frees a large block, as that of this text.
const keepHeap = "select octet_length(repeat(' ', 1048576))"

// majorVersion returns the major version that the server reported at connect: 17 for "17.2 (Debian 17.2-1)". It
// returns 0 when the server reported none.
func majorVersion(conn *pgconn.PgConn) int {
	text := conn.ParameterStatus("server_version")
	digits := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(text)
	}

	major, err := strconv.Atoi(text[:digits])
	if err != nil {
		return 0
	}
	return major
}

// EncodingFault returns an error for a connection with another client_encoding than UTF8: the server would store
// texts encoded twice. It sends no query, because the server reports the encoding at connect.
func EncodingFault(conn *pgconn.PgConn) error {
	switch got := conn.ParameterStatus("client_encoding"); got {
	case "UTF8", "UNICODE", "": // a pooler may hide the value
		return nil
	default:
		return &queue.Error{
			Kind: queue.KindUnavailable, Subject: "client_encoding", Err: errForeignEncoding,
			Msg: "is " + got + "; must be UTF8, or texts are stored encoded twice; set it in the connection string, or have the pooler pass it on",
		}
	}
}

// PoolConfig returns the configuration of a pool. Each new connection of the pool reads the connection string again,
// because the files behind it (pass file, service file, certificates) may have changed since.
func (c *Connector) PoolConfig() (*pgxpool.Config, error) {
	cfg, err := c.parseURL()
	if err != nil {
		return nil, err
	}
	cfg.BeforeConnect = c.refreshConfig
	return cfg, nil
}

func (c *Connector) parseURL() (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, err
	}
	c.Prepare(cfg.ConnConfig, c.Pooler)
	return cfg, nil
}

// refreshConfig is the BeforeConnect of the pool. A connection uses the last configuration when the files cannot be
// read.
func (c *Connector) refreshConfig(ctx context.Context, cfg *pgx.ConnConfig) error {
	fresh, err := c.parseURL()
	if err != nil {
		c.Logger.WarnContext(ctx, "could not read the connection string again; the next connection is made by the last", "error", err)
		return nil
	}
	*cfg = *fresh.ConnConfig
	return nil
}

// ExtraConfig returns the configuration of a connection beside the pool. The connection has its own
// application_name unless the user chose one.
func (d *Database) ExtraConfig(ctx context.Context, name string) (*pgx.ConnConfig, error) {
	pool := d.Pool.Config()
	cfg := pool.ConnConfig
	if pool.BeforeConnect != nil { // it may set a password that changes every hour
		if err := pool.BeforeConnect(ctx, cfg); err != nil {
			return nil, &ConnectError{err}
		}
	}
	if cfg.RuntimeParams["application_name"] == "pgqueue" {
		cfg.RuntimeParams["application_name"] = name
	}
	return cfg, nil
}

// Connect opens one connection beside the pool. Its error is a ConnectError.
func Connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, &ConnectError{err}
	}
	return conn, nil
}

// RefusesParameters reports whether err is a pooler's refusal of the settings in cfg: the same server accepts a
// connection without settings. Poolers use one SQLSTATE for all refusals, and their texts say no more, so only the
// second connection proves it.
func RefusesParameters(ctx context.Context, cfg *pgx.ConnConfig, err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != sqlstate.ProtocolViolation {
		return false
	}

	bare := cfg.Copy()
	bare.RuntimeParams = map[string]string{}
	// It would state settings and fail in the same way.
	bare.AfterConnect = nil

	conn, err := Connect(ctx, bare)
	if err != nil {
		return false
	}
	Disconnect(ctx, conn)
	return true
}

// Disconnect closes conn within one second. It ignores the end of ctx, because the caller's ctx has often ended
// already.
func Disconnect(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
