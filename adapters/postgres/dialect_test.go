package postgres_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

// The statements and migrations run on plain PostgreSQL and on Citus, with the schema as one distributed schema. Citus refuses
// some forms, and evaluates others on another server than the one with the sequences and transaction ids. TestDialect finds
// these forms without a server.

// dialectRule is one form that no command may have.
type dialectRule struct {
	name string
	why  string
	find func(command string) bool
}

var dialectRules = []dialectRule{
	{"SQL function that reads tables", "Citus runs its body on an empty table", func(command string) bool {
		match := sqlFunction.FindStringIndex(command)
		return len(match) > 0 && (readsTable.MatchString(command[match[1]:]) || strings.Contains(command, "begin atomic"))
	}},
	{"row type of a table in a signature", "function and partitions would depend on each other", func(command string) bool {
		match := signature.FindStringSubmatch(command)
		return len(match) > 0 && strings.Contains(match[1], "pgqueue.")
	}},
	{"volatile function in an update or delete", "Citus refuses it", func(command string) bool {
		return slices.ContainsFunc(listParts(command), func(part string) bool { return changesRows.MatchString(part) && volatileCall.MatchString(part) })
	}},
	{"clock that is not stable", "Citus refuses volatile functions in updates", func(command string) bool {
		return clockFunction.MatchString(command) && !strings.Contains(command, "language plpgsql stable")
	}},
	{"clock in a subquery without offset 0", "it would be read for each of its uses", bareClock.MatchString},
	{"ctid beside a part that inserts or updates", "Citus runs the parts one by one and refuses ctid", func(command string) bool {
		parts := listParts(command)
		return strings.Contains(command, "ctid") && len(parts) > 1 && slices.ContainsFunc(parts[:len(parts)-1], addsRows.MatchString)
	}},
	{"snapshot or transaction id in a statement with tables", "it is that of the server with the tables", func(command string) bool {
		return presentSnapshot.MatchString(command) && !localForm.MatchString(command) && asksTable.MatchString(command)
	}},
	{"I/O cast of a column in an update", "it is stable, and Citus refuses a stable function of a column", func(command string) bool {
		return slices.ContainsFunc(listParts(command), func(part string) bool { return updatesRows.MatchString(part) && columnCast.MatchString(part) })
	}},
	{"sum of a time of a column and an interval in an update", "it is stable, and Citus refuses a stable function of a column", func(command string) bool {
		return slices.ContainsFunc(listParts(command), func(part string) bool {
			match := updatesRows.FindStringIndex(part)
			return len(match) > 0 && columnSum.MatchString(dropSubqueries(part[match[0]:]))
		})
	}},
	{"clock in a case or coalesce of an update", "Citus refuses those that are not immutable", func(command string) bool {
		return slices.ContainsFunc(listParts(command), func(part string) bool { return updatesRows.MatchString(part) && choosesClock.MatchString(part) })
	}},
	{"subquery beside a function that returns rows", "Citus refuses correlated ones", func(command string) bool {
		return besideRows.MatchString(command)
	}},
	{"function in a returning list", "Citus refuses those that are not immutable", func(command string) bool {
		return !strings.HasPrefix(command, "create ") && slices.ContainsFunc(listParts(command), returnedCall.MatchString)
	}},
	{"interval of days or longer", "a day has 23 or 25 hours where the clock changes in the session's time zone", longInterval.MatchString},
	{"identity of an integer", "Citus refuses nextval on other servers for it", integerIdentity.MatchString},
}

var (
	sqlFunction     = regexp.MustCompile(`^create (?:or replace )?function [^$]*?language sql\b`)
	signature       = regexp.MustCompile(`(?s)^create (?:or replace )?function pgqueue\.\w+\s*(\(.*?)\blanguage\b`)
	readsTable      = regexp.MustCompile(`\b(?:from|join|using|update|into)\s+(?:only\s+)?pgqueue\.`)
	changesRows     = regexp.MustCompile(`^(?:update|delete)\b`)
	updatesRows     = regexp.MustCompile(`^update\b|\bdo update\b`)
	addsRows        = regexp.MustCompile(`^(?:insert|update)\b`)
	volatileCall    = regexp.MustCompile(`\b(?:nextval|setval|clock_timestamp|timeofday|random|gen_random_uuid|pg_current_xact_id|pg_advisory\w+|pg_notify|set_config)\(`)
	clockFunction   = regexp.MustCompile(`^create (?:or replace )?function pgqueue\.clock\(\)`)
	bareClock       = regexp.MustCompile(`\bfrom \(select pgqueue\.clock\(\) as \w+\)`)
	asksTable       = regexp.MustCompile(`\b(?:from|join|using|update)\s+(?:only\s+)?pgqueue\.`)
	localForm       = regexp.MustCompile(`^(?:create table|do)\b`) // a default, and a block with statements of its own
	presentSnapshot = regexp.MustCompile(`\bpg_current_(?:snapshot|xact_id)\(\)`)
	columnCast      = regexp.MustCompile(`\b[a-z_]+\.[a-z_]+::(?:\w+\[\]|timestamptz|timestamp|date|time|regclass|jsonb?)`)
	columnSum       = regexp.MustCompile(`\b[a-z_]+\.[a-z_]+ [-+] (?:interval|pgqueue\.nanos|pgqueue\.stay|make_interval)\b`)
	choosesClock    = regexp.MustCompile(`\bcoalesce\([^)]*pgqueue\.clock\(|\bcase\b(?:[^e]|e[^n]|en[^d])*pgqueue\.clock\(`)
	besideRows      = regexp.MustCompile(`\bfrom unnest\([^)]*\)(?: with ordinality)? \w+ \([^)]*\) (?:where not exists|left join lateral) \(`)
	returnedCall    = regexp.MustCompile(`\breturning\b[^;]*?(?:\bpgqueue\.\w+\(|\bextract\(|\bdate_trunc\(|\bnow\(\)|\binterval '|\bselect\b)`)
	longInterval    = regexp.MustCompile(`\binterval '[^']*\b(?:d|day|week|mon|month|year)s?\b|\bmake_interval\((?:days|weeks|months|years)\b`)
	subquery        = regexp.MustCompile(`\(\s*select\b`)
	integerIdentity = regexp.MustCompile(`\b(?:integer|smallint|int)\s+(?:not null\s+)?generated\b[^,]*\bas identity|\b(?:small)?serial\b`)
)

// severalCommands are the statements with several commands. The store sends each command in a message of its own.
var severalCommands = []string{"part.create", "part.close", "part.drop", "migrate.session", "home.make", "home.first"}

// listParts returns the common table expressions of a command, and its last part. Parts within parts belong to them.
func listParts(command string) (parts []string) {
	rest, with := strings.CutPrefix(command, "with ")
	if !with {
		return []string{command}
	}

	for rest = strings.TrimPrefix(rest, "recursive "); ; {
		open := strings.Index(rest, "as ")
		start := strings.IndexByte(rest[open:], '(') + open
		end := matchParenthesis(rest, start)
		parts = append(parts, strings.TrimSpace(rest[start+1:end]))

		rest = strings.TrimSpace(rest[end+1:])
		if !strings.HasPrefix(rest, ",") {
			return append(parts, rest)
		}
	}
}

// dropSubqueries returns a part without its subqueries: Citus looks only at the columns of the update itself.
func dropSubqueries(part string) string {
	for {
		at := subquery.FindStringIndex(part)
		if at == nil {
			return part
		}
		start := at[0]
		part = part[:start] + part[matchParenthesis(part, start)+1:]
	}
}

// matchParenthesis returns the place of the parenthesis that closes the one at start.
func matchParenthesis(text string, start int) int {
	depth := 0
	for at := start; at < len(text); at++ {
		switch text[at] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return at
			}
		}
	}
	return len(text) - 1
}

var (
	lineComment = regexp.MustCompile(`--[^\n]*`)
	whiteSpace  = regexp.MustCompile(`\s+`)
	statementIn = regexp.MustCompile(`\b(?:with \w+ (?:as|\()|insert into|update (?:only )?\w+\.|delete from|select)\b`)
)

// listCommands returns the commands of a script in one line each, and those within its functions in PL/pgSQL.
func listCommands(script string) (commands []string) {
	for _, command := range sqltext.SplitCommands(script) {
		command = strings.TrimSpace(whiteSpace.ReplaceAllString(lineComment.ReplaceAllString(command, ""), " "))
		commands = append(commands, command)

		_, body, isFunction := strings.Cut(command, "$$")
		if !isFunction {
			continue
		}
		for inner := range strings.SplitSeq(body, ";") {
			if at := statementIn.FindStringIndex(inner); at != nil {
				commands = append(commands, strings.TrimSpace(inner[at[0]:]))
			}
		}
	}
	return commands
}

// TestDialect holds every statement, migration and script to the forms that plain PostgreSQL and Citus share.
func TestDialect(t *testing.T) {
	t.Parallel()

	texts := postgres.Statements(postgres.DefaultSchema)
	for name, text := range texts {
		if n := len(sqltext.SplitCommands(text)); n != 1 && !slices.Contains(severalCommands, name) {
			t.Errorf("%s has %d commands: Citus takes one in a message", name, n)
		}
	}
	for _, pattern := range []string{"internal/migrate/migrations/*.sql", "internal/migrate/scripts/*.sql"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) < 2 {
			t.Fatalf("%d files of %s, %v", len(paths), pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}

	commands := 0
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		for _, command := range listCommands(texts[name]) {
			commands++
			for _, rule := range dialectRules {
				if rule.find(command) {
					t.Errorf("%s: %s: %s\n%s", name, rule.name, rule.why, command)
				}
			}
		}
	}
	t.Logf("%d commands of %d texts, %d rules", commands, len(texts), len(dialectRules))
}

// TestDialectFindsEachForm plants a command with each form, and a harmless neighbour of it.
func TestDialectFindsEachForm(t *testing.T) {
	t.Parallel()
	planted := map[string]struct{ bad, good string }{
		"SQL function that reads tables": {
			"create function pgqueue.f(i bigint) returns bigint language sql stable as 'select id from pgqueue.task where id = i';",
			"create function pgqueue.f(i bigint) returns bigint language plpgsql stable as $$ begin return (select id from pgqueue.task where id = i); end $$;",
		},
		"row type of a table in a signature": {
			"create function pgqueue.f(q pgqueue.queue, n integer) returns void language plpgsql as $$ begin end $$;",
			"create function pgqueue.f(n integer) returns void language plpgsql as $$ declare q pgqueue.queue; begin end $$;",
		},
		"volatile function in an update or delete": {
			"with i as (select 1) update pgqueue.ready r set turn = nextval('pgqueue.turn') from i",
			"with i as (select nextval('pgqueue.turn') as turn) insert into pgqueue.ready select turn from i",
		},
		"clock that is not stable": {
			"create function pgqueue.clock() returns timestamptz language sql volatile as 'select pg_catalog.clock_timestamp()'",
			"create function pgqueue.clock() returns timestamptz language plpgsql stable as 'begin return pg_catalog.clock_timestamp(); end'",
		},
		"clock in a subquery without offset 0": {
			"insert into pgqueue.queue (created_at, updated_at) select c.now, c.now from (select pgqueue.clock() as now) c",
			"insert into pgqueue.queue (created_at, updated_at) select c.now, c.now from (select pgqueue.clock() as now offset 0) c",
		},
		"ctid beside a part that inserts or updates": {
			"with due as (select ctid as at from pgqueue.delayed), _ready as (insert into pgqueue.ready select 1) delete from pgqueue.delayed where ctid = any (array(select at from due))",
			"with due as (select ctid as at from pgqueue.delayed) delete from pgqueue.delayed where ctid = any (array(select at from due))",
		},
		"snapshot or transaction id in a statement with tables": {
			"select e.id from pgqueue.event e where e.xid < pg_snapshot_xmax(pg_current_snapshot())",
			"insert into pgqueue.fold (seen) select pg_current_snapshot()",
		},
		"I/O cast of a column in an update": {
			"update pgqueue.lease l set task_ids = i.ids::bigint[] from unnest($1::text[]) i (ids)",
			"insert into pgqueue.lease (task_ids) select i.ids::bigint[] from unnest($1::text[]) i (ids)",
		},
		"sum of a time of a column and an interval in an update": {
			"insert into pgqueue.queue_count as c values (1) on conflict (queue_id) do update set next_at = case when c.next_at < excluded.next_at - interval '30 s' then now() end",
			"insert into pgqueue.queue_count as c values (1) on conflict (queue_id) do update set next_at = case when excluded.next_at - c.next_at > interval '30 s' then now() end",
		},
		"clock in a case or coalesce of an update": {
			"update pgqueue.session s set ended_at = coalesce(s.ended_at, pgqueue.clock()) where s.id = $1",
			"update pgqueue.session s set ended_at = coalesce(s.ended_at, c.now) from (select pgqueue.clock() as now offset 0) c where s.id = $1",
		},
		"subquery beside a function that returns rows": {
			"insert into pgqueue.lane (queue_id) select i.queue_id from unnest($1::integer[]) i (queue_id) where not exists (select 1 from pgqueue.lane l where l.queue_id = i.queue_id)",
			"insert into pgqueue.lane (queue_id) select i.queue_id from unnest($1::integer[]) i (queue_id) where i.queue_id not in (select l.queue_id from pgqueue.lane l where l.queue_id = any ($1))",
		},
		"function in a returning list": {
			"update pgqueue.access_token t set used_at = pgqueue.clock() returning t.id, pgqueue.clock()",
			"with used as (update pgqueue.access_token t set used_at = pgqueue.clock() returning t.id) select id, pgqueue.clock() from used",
		},
		"interval of days or longer": {
			"delete from pgqueue.tick i where i.at < (select pgqueue.clock()) - interval '30 days'",
			"delete from pgqueue.tick i where i.at < (select pgqueue.clock()) - interval '720 h'",
		},
		"identity of an integer": {
			"create table pgqueue.t (id integer generated always as identity primary key)",
			"create table pgqueue.t (n integer not null, id bigint generated always as identity primary key)",
		},
	}

	for _, rule := range dialectRules {
		pair, found := planted[rule.name]
		if !found {
			t.Errorf("no planted command for %q", rule.name)
			continue
		}
		if !slices.ContainsFunc(listCommands(pair.bad), rule.find) {
			t.Errorf("%s: not found in %s", rule.name, pair.bad)
		}
		if slices.ContainsFunc(listCommands(pair.good), rule.find) {
			t.Errorf("%s: found in %s", rule.name, pair.good)
		}
	}
	if len(planted) != len(dialectRules) {
		t.Error(fmt.Sprint(len(planted), " planted commands, ", len(dialectRules), " rules"))
	}
	if n := len(sqltext.SplitCommands("set local lock_timeout = 0; select 1")); n != 2 {
		t.Errorf("two commands in one statement are counted as %d", n)
	}
}
