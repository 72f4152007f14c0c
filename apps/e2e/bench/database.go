package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/host"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/report"
)

// settings tune the server as an administrator would, alike for all contenders. Durability is full.
var settings = [][2]string{
	{"fsync", "on"},
	{"full_page_writes", "on"},
	{"synchronous_commit", "on"},
	{"shared_buffers", "1GB"},
	{"max_wal_size", "4GB"},
	{"checkpoint_timeout", "15min"},
	{"max_connections", "200"},
	{"track_io_timing", "off"},
}

// database is the PostgreSQL server of all contenders.
type database struct {
	server     *embedded.Server
	conn       *pgx.Conn // session in the database "pgqueue", which no contender uses
	postmaster int
	statements bool // pg_stat_statements is installed
}

// startDatabase starts the server. With profile it records statements.
func startDatabase(ctx context.Context, profile bool) (_ *database, err error) {
	var opts []embedded.Option
	for _, s := range settings {
		opts = append(opts, embedded.WithSetting(s[0], s[1]))
	}
	opts = append(opts, embedded.WithTemporary())
	track := "none" // recording would slow contenders with many statements most
	if profile {
		track = "top"
	}

	d := &database{}
	d.server, err = embedded.Start(ctx, append(opts, embedded.WithSetting("shared_preload_libraries", "pg_stat_statements"),
		embedded.WithSetting("pg_stat_statements.track", track))...)
	if err != nil { // not every installation has this extension
		d.server, err = embedded.Start(ctx, opts...)
	}
	if err != nil {
		return nil, err
	}

	defer func() {
		if err != nil {
			d.stop(ctx)
		}
	}()

	if d.postmaster, err = host.Postmaster(filepath.Join(d.server.DataDir(), "data")); err != nil {
		return nil, err
	}
	if d.conn, err = pgx.Connect(ctx, d.server.DSN()); err != nil {
		return nil, err
	}

	_, err = d.conn.Exec(ctx, "create extension if not exists pg_stat_statements")
	d.statements = err == nil
	return d, nil
}

// stop ends the server within a minute.
func (d *database) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if d.conn != nil {
		_ = d.conn.Close(ctx)
	}
	_ = d.server.Stop(ctx)
}

// describe reads the version and the settings for the report.
func (d *database) describe(ctx context.Context, r *report.Results) error {
	if err := d.conn.QueryRow(ctx, "show server_version").Scan(&r.PostgreSQL); err != nil {
		return err
	}
	for _, s := range append(settings, [2]string{"shared_preload_libraries", ""}) {
		var value string
		if err := d.conn.QueryRow(ctx, "select current_setting($1)", s[0]).Scan(&value); err != nil {
			return err
		}
		r.Settings = append(r.Settings, [2]string{s[0], value})
	}
	return nil
}

// stageName is the database of the current run.
const stageName = "stage"

// fresh creates an empty database and returns its URL. A checkpoint writes all dirty pages, so that no run pays
// for the writes of another.
func (d *database) fresh(ctx context.Context) (string, error) {
	for _, sql := range []string{
		"drop database if exists " + stageName + " with (force)", "create database " + stageName, "checkpoint",
	} {
		if _, err := d.conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("%s: %w", sql, err)
		}
	}

	u, err := url.Parse(d.server.DSN())
	if err != nil {
		return "", err
	}
	u.Path = "/" + stageName
	return u.String(), nil
}

// wal returns the bytes of log that the server has written.
func (d *database) wal(ctx context.Context) (n int64, err error) {
	err = d.conn.QueryRow(ctx, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&n)
	return n, err
}

// size returns the size of the run's database in bytes.
func (d *database) size(ctx context.Context) (n int64, err error) {
	err = d.conn.QueryRow(ctx, "select pg_database_size($1)", stageName).Scan(&n)
	return n, err
}

// dead returns the number of rows that the run has updated or deleted. Sessions report it at their end, or after a
// second.
func (d *database) dead(ctx context.Context) (n int64, err error) {
	err = d.conn.QueryRow(ctx, "select tup_updated + tup_deleted from pg_stat_database where datname = $1", stageName).Scan(&n)
	return n, err
}

// forget clears the recorded statements.
func (d *database) forget(ctx context.Context) error {
	if !d.statements {
		return nil
	}
	_, err := d.conn.Exec(ctx, "select pg_stat_statements_reset()")
	return err
}

// slowest returns the 12 statements of the run's database that took the most time.
func (d *database) slowest(ctx context.Context) ([]report.Statement, error) {
	if !d.statements {
		return nil, nil
	}
	rows, err := d.conn.Query(ctx, `
		select query, calls, rows, total_exec_time / 1000 from pg_stat_statements s
		join pg_database on pg_database.oid = s.dbid where datname = $1 order by total_exec_time desc limit 12`, stageName)
	if err != nil {
		return nil, err
	}

	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s report.Statement, err error) {
		err = row.Scan(&s.Query, &s.Calls, &s.Rows, &s.Seconds)
		s.Query = strings.Join(strings.Fields(comment.ReplaceAllString(s.Query, "")), " ")
		return s, err
	})
}

// comment matches a comment in SQL. A list of statements is easier to read without them.
var comment = regexp.MustCompile(`(?m)--.*$`)

// hold opens a session that keeps a snapshot until release is called, like a long report or a backup.
func (*database) hold(ctx context.Context, stage string) (release func(), err error) {
	conn, err := pgx.Connect(ctx, stage)
	if err != nil {
		return nil, err
	}
	release = func() { _ = conn.Close(context.WithoutCancel(ctx)) }

	for _, sql := range []string{"begin isolation level repeatable read", "select count(*) from pg_class"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}
