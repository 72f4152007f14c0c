package postgres

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Every connection of a Store that Open made comes from here: those of the pool, the one that listens and the one that makes
// partitions. Each states the settings that it needs (settings.go).

// prepareConnection has connections of cfg state what they need.
func (o *options) prepareConnection(cfg *pgx.ConnConfig, pooler bool) {
	said := map[string]bool{}
	for name := range cfg.RuntimeParams {
		said[strings.ToLower(name)] = true
	}
	var later []statedSetting // those that older servers would refuse a connection for
	for _, s := range statedSettings {
		name := strings.ToLower(s.name)
		if s.yields && said[name] || pooler && !s.pooled {
			continue
		}
		if s.since > 0 {
			later = append(later, s)
			continue
		}
		maps.DeleteFunc(cfg.RuntimeParams, func(have, _ string) bool { return strings.EqualFold(have, name) })
		cfg.RuntimeParams[name] = s.value
	}
	if pooler {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	} else if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "pgqueue"
	}
	cfg.OnNotice = onNotice
	if o.tracer != nil {
		cfg.Tracer = o.tracer
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := encodingFault(conn); err != nil {
			return err
		}
		major := majorVersion(conn)
		for _, s := range later {
			if major >= s.since {
				if err := conn.Exec(ctx, "set "+s.name+" = "+s.value).Close(); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// majorVersion of the server as it told at the start, as 17 of "17.2 (Debian 17.2-1)"; 0 when it told nothing.
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

// encodingFault refuses a connection whose texts would be stored encoded twice. It asks nothing: the server has told.
func encodingFault(conn *pgconn.PgConn) error {
	switch got := conn.ParameterStatus("client_encoding"); got {
	case "UTF8", "UNICODE", "": // a pooler may keep it to itself
		return nil
	default:
		return &queue.Error{
			Kind: queue.KindUnavailable, Subject: "client_encoding", Err: errForeignEncoding,
			Msg: "is " + got + "; must be UTF8, or texts are stored encoded twice; set it in the connection string, or have the pooler pass it on",
		}
	}
}

// poolSource makes the configuration of a pool of Open's, and again for each of its connections: what the connection string
// leads to, as a pass file, a service file and certificates, may be other than it was.
type poolSource struct {
	url string
	opt *options
}

func (p poolSource) parseConfig() (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(p.url)
	if err != nil {
		return nil, err
	}
	p.opt.prepareConnection(cfg.ConnConfig, p.opt.pooler)
	return cfg, nil
}

// refreshConfig is the BeforeConnect of the pool. What cannot be read any more is as it was.
func (p poolSource) refreshConfig(ctx context.Context, cfg *pgx.ConnConfig) error {
	fresh, err := p.parseConfig()
	if err != nil {
		p.opt.logger.WarnContext(ctx, "could not read the connection string again; the next connection is made by the last", "error", err)
		return nil
	}
	*cfg = *fresh.ConnConfig
	return nil
}

// configOfExtraConn is the configuration of a connection beside the pool, under a name of its own unless the user named all.
func (s *Store) configOfExtraConn(ctx context.Context, name string) (*pgx.ConnConfig, error) {
	pool := s.pool.Config()
	cfg := pool.ConnConfig
	if pool.BeforeConnect != nil { // it may know the password of the hour
		if err := pool.BeforeConnect(ctx, cfg); err != nil {
			return nil, &connectError{err}
		}
	}
	if cfg.RuntimeParams["application_name"] == "pgqueue" {
		cfg.RuntimeParams["application_name"] = name
	}
	return cfg, nil
}

// openConnection makes one connection beside the pool.
func openConnection(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, &connectError{err}
	}
	return conn, nil
}

// refusesParameters says that err is a pooler's refusal of the settings that cfg states: the same server lets in who states
// none. Poolers give one SQLSTATE to all that they refuse, so the texts would tell no more.
func refusesParameters(ctx context.Context, cfg *pgx.ConnConfig, err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != "08P01" {
		return false
	}
	bare := cfg.Copy()
	bare.RuntimeParams = map[string]string{}
	bare.AfterConnect = nil
	conn, err := openConnection(ctx, bare)
	if err != nil {
		return false
	}
	closeConnection(ctx, conn)
	return true
}
