package postgrestest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest/internal/server"
)

// Turned returns dsn for a superuser with a role that turns every setting that a role may have away from its default, except
// those that FixedSettings names. The first test makes the role, and the server keeps it for later ones. For connections
// that state nothing, as behind a pooler, bare leaves out the limits that end calls early.
func Turned(t testing.TB, dsn string, bare bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()

	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))

	sum := sha256.Sum256(fmt.Append(nil, turnedSettings, shortSettings, FixedSettings(), bare))
	role := server.Prefix + "turned_" + hex.EncodeToString(sum[:6])
	if err := makeTurnedRole(ctx, conn, role, bare); err != nil {
		t.Fatalf("making a role with all settings turned: %v", err)
	}

	u.User = url.UserPassword(role, role)
	return u.String()
}

// FixedSettings returns the settings that Turned leaves at their defaults, with the reasons.
func FixedSettings() map[string]string {
	fixed := map[string]string{
		"transaction_isolation":       "belongs to a transaction; its default is turned",
		"transaction_read_only":       "belongs to a transaction; its default is refused",
		"transaction_deferrable":      "belongs to a transaction; its default is turned",
		"default_table_access_method": "the server has one method, heap",
		"local_preload_libraries":     "the server has no library that every role may load",
		"log_statement_stats":         "excludes the statistics of parser, planner and executor, which are turned",
	}
	if os.Getenv("PGQUEUE_TEST_FULL") == "" {
		for _, name := range noisySettings {
			fixed[name] = "writes pages into the log for each statement: turned in the long form"
		}
	}
	for _, s := range postgres.Settings() {
		if s.Class == postgres.SettingRefused {
			fixed[s.Name] = "is refused by name"
		}
	}
	return fixed
}

// turnedSettings are values where the rule of turnedValues gives none, or one that leaves the server unusable.
var turnedSettings = map[string]string{
	"DateStyle": "German", "TimeZone": "America/St_Johns", "timezone_abbreviations": "India", "client_encoding": "latin1",
	"search_path": "elsewhere", "application_name": "turned", "default_text_search_config": "pg_catalog.german",
	"default_tablespace": "pg_default", "temp_tablespaces": "pg_default", "session_preload_libraries": "plpgsql",
	"dynamic_library_path": "$libdir:/nowhere", "extension_control_path": "$system:/nowhere", "extension_destdir": "/nowhere", "createrole_self_grant": "inherit",
	"backtrace_functions": "exec_simple_query", "wal_consistency_checking": "brin",
	"default_transaction_isolation": "serializable", "IntervalStyle": "sql_standard", "client_min_messages": "error",
	"plan_cache_mode": "force_custom_plan", "synchronous_commit": "off", "backslash_quote": "off",
	"extra_float_digits": "-15", "idle_in_transaction_session_timeout": "20s", "work_mem": "64kB",
	// The largest values: minutes of search for a plan, 100 ms of sleep at each commit, and what the system refuses.
	"geqo_pool_size": "10", "geqo_generations": "1", "commit_delay": "10", "tcp_keepalives_idle": "30",
	"tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "60s",
	"client_connection_check_interval": "1ms", "log_min_messages": "info",
}

// noisySettings make a suite take three times as long.
var noisySettings = []string{
	"log_duration", "log_parser_stats", "log_planner_stats", "log_executor_stats", "log_transaction_sample_rate",
	"debug_print_parse", "debug_print_plan", "debug_print_rewritten", "debug_print_raw_parse",
}

// shortSettings end the calls of a connection that does not state them.
var shortSettings = map[string]string{
	"statement_timeout": "50ms", "lock_timeout": "1ms", "idle_session_timeout": "300ms", "transaction_timeout": "60ms",
}

// serverSetting is a row of pg_settings.
type serverSetting struct {
	Name, Kind, Reset, Min, Max string
	Values                      []string
}

// makeTurnedRole makes the role, unless an earlier test made it.
func makeTurnedRole(ctx context.Context, conn *pgx.Conn, role string, bare bool) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Test binaries share the server.
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtext($1))", role); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", role).Scan(&there); there || err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "create role "+role+" login superuser password '"+role+"'"); err != nil {
			return err
		}

		rows, err := tx.Query(ctx, `select name, vartype as kind, coalesce(reset_val, '') as reset, coalesce(min_val, '') as min,
				coalesce(max_val, '') as max, enumvals as values
			from pg_settings where context in ('user', 'superuser') and name not like '%.%'`)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, pgx.RowToStructByName[serverSetting])
		if err != nil {
			return err
		}

		fixed := FixedSettings()
		for _, s := range all {
			if _, ok := fixed[s.Name]; ok {
				continue
			}
			if err := turnSetting(ctx, tx, role, s, bare); err != nil {
				return err
			}
		}
		return nil
	})
}

// turnSetting gives role the first value of s that the server takes. The server decides whether it has the locale or
// the system call. A log names what it offers no other value of.
func turnSetting(ctx context.Context, tx pgx.Tx, role string, s serverSetting, bare bool) error {
	values := slices.DeleteFunc(s.turnedValues(bare), func(v string) bool { return v == s.Reset })
	refusal := errors.New("it has one value alone")
	for _, value := range values {
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, fmt.Sprintf("alter role %s set %s = '%s'", role, s.Name, value))
			return err
		})
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
			return err
		}
		refusal = err
	}

	if len(values) == 0 && s.Kind == "string" {
		return fmt.Errorf("setting %s: turnedSettings must have a value other than %q", s.Name, s.Reset)
	}
	toStderr("NOT TURNED: setting %s stays at %q: %v", s.Name, s.Reset, refusal)
	return nil
}

// turnedValues returns the values to try, best first. Booleans are flipped, enumerations take another value, numbers an
// end of their range.
func (s serverSetting) turnedValues(bare bool) []string {
	if value, ok := shortSettings[s.Name]; ok && !bare {
		return []string{value}
	}
	if value, ok := turnedSettings[s.Name]; ok {
		return []string{value}
	}

	switch {
	case strings.HasPrefix(s.Name, "lc_"):
		return []string{"de_DE.UTF-8", "fr_FR.UTF-8", "es_ES.UTF-8", "C.UTF-8", "C", "POSIX"}
	case s.Kind == "bool" && s.Reset == "on":
		return []string{"off"}
	case s.Kind == "bool":
		return []string{"on"}
	case s.Kind == "enum":
		return slices.Clone(s.Values)
	case s.Kind == "string":
		return nil
	}
	return []string{s.Min, s.Max}
}
