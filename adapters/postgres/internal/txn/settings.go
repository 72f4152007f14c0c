package txn

import "strings"

// A role or a database may carry any setting that a session may change, and each connection starts with it. This file
// lists every such setting of PostgreSQL 14 to 18 with the answer of this package. A test compares the list with a
// server.

// SettingClass is the answer of this package to a setting of a role or database.
type SettingClass string

// These are the classes of settings.
const (
	// SettingStated is a setting that our connections set themselves.
	SettingStated SettingClass = "stated"
	// SettingHarmless is a setting without influence on any promise.
	SettingHarmless SettingClass = "harmless"
	// SettingRefused is a setting that makes calls fail until it is changed. Ping and doctor name it.
	SettingRefused SettingClass = "refused"
)

// Setting is one setting of PostgreSQL that a role or a database may have.
type Setting struct {
	Name  string
	Class SettingClass
	// Value is the value that we set, or the value that we need of a refused setting.
	Value string
	// Why is the reason why a harmless setting is harmless, or the dependency on any other setting.
	Why string
}

// statedSetting is a setting that our connections set.
type statedSetting struct {
	name, value, why string
	pooled           bool // sent through a pooler too, because PgBouncer and similar poolers know it
	yields           bool // the connection string may override it
	since            int  // first major version that has it; 0 = all
}

var statedSettings = []statedSetting{
	{name: "client_encoding", value: "UTF8", pooled: true, why: "texts are sent and read as UTF-8; another would store them encoded twice"},
	{name: "DateStyle", value: "ISO", why: "drivers read times in text by it; behind a pooler all times are read in binary"},
	{name: "standard_conforming_strings", value: "on", pooled: true, why: "a backslash in a literal is a backslash"},
	{name: "IntervalStyle", value: "postgres", why: "drivers read intervals in text by it"},
	{name: "bytea_output", value: "hex", why: "drivers read bytes in text by it"},
	{name: "extra_float_digits", value: "1", why: "floats in text are exact"},
	{name: "array_nulls", value: "on", why: "NULL in an array in text is null"},
	{name: "client_min_messages", value: "notice", why: "a commit that no standby has confirmed is reported by a warning alone"},
	{name: "exit_on_error", value: "off", why: "an error that is expected must not end the connection"},
	{name: "row_security", value: "on", why: "off makes each look at a table with policies fail"},
	{name: "statement_timeout", value: "0", yields: true, why: "each call has a deadline of its own"},
	{name: "lock_timeout", value: "0", yields: true, why: "each call has a deadline of its own; where a lock is not worth waiting for, the transaction says so"},
	{name: "idle_session_timeout", value: "0", yields: true, why: "connections of a pool, and the one that listens, rest between calls"},
	{name: "transaction_timeout", value: "0", yields: true, since: 17, why: "each call has a deadline of its own, migrations have none"},
	// Compilation just in time costs more than the many short statements.
	{name: "jit", value: "off", why: "compiling the short statements costs more than they do"},
	// PostgreSQL keeps a plan of a small table when the table is large. Every statement has an index that serves it at
	// any size and in its order. No plan may therefore scan a whole table, or sort all matching rows. See
	// plans_test.go.
	{name: "enable_seqscan", value: "off", why: "each statement has an index that serves it at any size"},
	{name: "enable_bitmapscan", value: "off", why: "each statement has an index that serves it in its order"},
	{name: "enable_indexscan", value: "on", why: "each statement has an index that serves it"},
	{name: "enable_indexonlyscan", value: "on", why: "each statement has an index that serves it"},
	{name: "enable_nestloop", value: "on", why: "look-ups by key are nested loops"},
	{name: "enable_partition_pruning", value: "on", why: "without it each look-up reads all partitions"},
	// One plan serves all arguments, and plans_test.go checks this plan. Without this setting PostgreSQL rates a plan
	// for a short list so much cheaper that it plans at each call. That costs several times as much as the statement.
	{name: "plan_cache_mode", value: "force_generic_plan", why: "one plan for all arguments"},
}

// RefusedSettings cannot be set by us: a change needs a right, or would override the will of the operator.
var RefusedSettings = []Setting{
	{Name: "default_transaction_read_only", Value: "off", Why: "the operator that sets it allows no writes"},
	{Name: "session_replication_role", Value: "origin", Why: "replica leaves out foreign keys and triggers; only a superuser may change it"},
	{Name: "restrict_nonsystem_relation_kind", Value: "", Why: "view keeps lists and single looks from their view"},
}

// RefusesSetting reports whether value is a forbidden value of the setting name.
func RefusesSetting(name, value string) bool {
	switch name {
	case "default_transaction_read_only":
		return value == "on"
	case "session_replication_role":
		return value == "replica"
	case "restrict_nonsystem_relation_kind":
		return strings.Contains(value, "view")
	}
	return false
}

// PathHidesCatalog reports whether a search path names another schema before pg_catalog.
func PathHidesCatalog(path string) bool {
	for i, schema := range strings.Split(path, ",") {
		if strings.Trim(schema, ` "`) == "pg_catalog" {
			return i > 0
		}
	}
	return false
}

// harmlessSettings are grouped by the reason.
var harmlessSettings = []struct{ why, names string }{
	{
		"times travel in binary or as numbers, and no statement computes with days or months",
		"TimeZone timezone_abbreviations",
	},
	{
		"no text of a message is compared: SQLSTATE, constraint and routine are",
		"lc_messages",
	},
	{
		"no statement formats numbers or money, searches text or makes XML",
		"lc_monetary lc_numeric lc_time default_text_search_config xmlbinary xmloption",
	},
	{
		"names of tables and functions are qualified, and pg_catalog is searched first unless a path names it later, which doctor " +
			"names; migrations state the path, so that views and functions keep their meaning",
		"search_path",
	},
	{
		"each transaction of ours states its level, and a statement by itself means the same at any",
		"default_transaction_isolation default_transaction_deferrable transaction_deferrable transaction_isolation",
	},
	{"begin sets it anew from its default", "transaction_read_only"},
	{"no statement of ours waits for anything but the next of its transaction; a caller's own transaction is the caller's", "idle_in_transaction_session_timeout"},
	{"a question of durability, not of meaning: doctor and the server's log name it", "synchronous_commit"},
	{
		"syntax that no statement of ours has",
		"backslash_quote escape_string_warning transform_null_equals quote_all_identifiers lo_compat_privileges",
	},
	{
		"costs and kinds of plans; what must not be is stated, the result is the same",
		"backend_flush_after commit_siblings constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost " +
			"cursor_tuple_fraction default_statistics_target effective_cache_size effective_io_concurrency enable_async_append " +
			"enable_distinct_reordering enable_eager_aggregate enable_gathermerge enable_group_by_reordering enable_hashagg enable_hashjoin enable_incremental_sort " +
			"enable_material enable_memoize enable_mergejoin enable_parallel_append enable_parallel_hash " +
			"enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate enable_self_join_elimination enable_sort enable_tidscan " +
			"force_parallel_mode debug_parallel_query from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size geqo_seed " +
			"geqo_selection_bias geqo_threshold gin_fuzzy_search_limit gin_pending_list_limit hash_mem_multiplier " +
			"jit_above_cost jit_expressions jit_inline_above_cost jit_optimize_above_cost jit_tuple_deforming join_collapse_limit " +
			"maintenance_io_concurrency max_parallel_maintenance_workers max_parallel_workers max_parallel_workers_per_gather " +
			"min_parallel_index_scan_size min_parallel_table_scan_size parallel_leader_participation parallel_setup_cost " +
			"parallel_tuple_cost random_page_cost recursive_worktable_factor seq_page_cost synchronize_seqscans " +
			"logical_decoding_work_mem maintenance_work_mem temp_buffers work_mem io_combine_limit io_max_combine_limit " +
			"temp_file_limit max_stack_depth",
	},
	{
		"where a table lies and how it is packed is the operator's choice; migrations clear a tablespace that is the database's own",
		"default_table_access_method default_tablespace default_toast_compression temp_tablespaces",
	},
	{
		"vacuum, WAL and replication work as the operator wants",
		"vacuum_buffer_usage_limit vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty vacuum_cost_page_hit vacuum_cost_page_miss vacuum_failsafe_age " +
			"vacuum_freeze_min_age vacuum_freeze_table_age vacuum_max_eager_freeze_failure_rate vacuum_multixact_failsafe_age " +
			"vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age vacuum_truncate wal_sender_timeout wal_sender_shutdown_timeout wal_skip_threshold " +
			"wal_compression wal_consistency_checking wal_init_zero wal_recycle commit_delay deadlock_timeout debug_logical_replication_streaming logical_replication_mode ",
	},
	{
		"names, statistics, logs and debugging",
		"application_name check_function_bodies client_connection_check_interval createrole_self_grant debug_pretty_print debug_print_parse debug_print_plan debug_print_raw_parse " +
			"debug_print_rewritten log_parameter_max_length_on_error password_encryption md5_password_warnings scram_iterations stats_fetch_consistency " +
			"trace_connection_negotiation trace_lock_oidmin trace_lock_table trace_locks trace_notify trace_sort trace_syncscan trace_userlocks trace_lwlocks track_cost_delay_timing " +
			"tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval tcp_user_timeout send_abort_for_crash send_abort_for_kill " +
			"backtrace_functions compute_query_id debug_discard_caches event_source event_triggers file_copy_method " +
			"jit_dump_bitcode log_duration log_error_verbosity log_executor_stats log_lock_failures log_lock_waits " +
			"log_min_duration_sample log_min_duration_statement log_min_error_statement log_min_messages log_parameter_max_length " +
			"log_parser_stats log_planner_stats log_replication_commands log_statement log_statement_sample_rate " +
			"log_statement_stats log_temp_files log_transaction_sample_rate track_activities track_counts track_functions " +
			"track_io_timing track_wal_io_timing update_process_title optimize_bounded_sort wal_debug log_btree_build_stats",
	},
	{
		"the superuser is responsible for the effects of these",
		"allow_alter_system allow_in_place_tablespaces allow_system_table_mods dynamic_library_path extension_control_path extension_destdir ignore_checksum_failure " +
			"ignore_invalid_pages icu_validation_level local_preload_libraries session_preload_libraries zero_damaged_pages",
	},
}

// Settings returns all settings that a role or a database may carry. Tools and tests compare them with those of a
// server.
func Settings() []Setting {
	var out []Setting
	for _, s := range statedSettings {
		out = append(out, Setting{Name: s.name, Class: SettingStated, Value: s.value, Why: s.why})
	}
	for _, s := range RefusedSettings {
		s.Class = SettingRefused
		out = append(out, s)
	}
	for _, group := range harmlessSettings {
		for name := range strings.FieldsSeq(group.names) {
			out = append(out, Setting{Name: name, Class: SettingHarmless, Why: group.why})
		}
	}
	return out
}
