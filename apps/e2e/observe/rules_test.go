package observe_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

const (
	rulesFile     = "../../../deploy/prometheus/rules.yml"
	dashboardFile = "../../../deploy/grafana/dashboards/pgqueue.json"
	runbooks      = "../../../docs/operations.md"
)

var histogram = regexp.MustCompile(`pgqueue_\w+_bucket`)

var promQL = parser.NewParser(parser.Options{})

func parseRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// alerts are the tests of the rules: series with one sample a minute, and the alerts that fire after a time.
var alerts = []struct {
	alert, name, series string
	at                  time.Duration
	firing              bool
}{
	{"PgqueueDown", "a process is gone", `up{job="pgqueue",instance="a"} 0x10`, 5 * time.Minute, true},
	{"PgqueueDown", "a restart is none", `up{job="pgqueue",instance="a"} 1 0 1x10`, 5 * time.Minute, false},
	{"PgqueueNotReady", "not ready", `pgqueue_ready{instance="a"} 0x20`, 10 * time.Minute, true},
	{"PgqueueNotReady", "ready", `pgqueue_ready{instance="a"} 1x20`, 10 * time.Minute, false},
	{"PgqueueStatsMissing", "no process reads", `pgqueue_stats_up{instance="a"} 0x20`, 10 * time.Minute, true},
	{"PgqueueStatsMissing", "one does", "pgqueue_stats_up{instance=\"a\"} 0x20\npgqueue_stats_up{instance=\"b\"} 1x20", 10 * time.Minute, false},
	{"PgqueueQueueStuck", "no worker retains", `pgqueue_queue_oldest_ready_age_seconds{namespace="n",queue="q"} 0+60x60`, 30 * time.Minute, true},
	{"PgqueueQueueStuck", "paused on purpose", "pgqueue_queue_oldest_ready_age_seconds{namespace=\"n\",queue=\"q\"} 0+60x60\n" +
		"pgqueue_queue_paused{namespace=\"n\",queue=\"q\"} 1x60", 30 * time.Minute, false},
	{"PgqueueQueueStuck", "young tasks", `pgqueue_queue_oldest_ready_age_seconds{namespace="n",queue="q"} 5x60`, 30 * time.Minute, false},
	{"PgqueueBacklogGrows", "it grows", `pgqueue_queue_ready_tasks{namespace="n",queue="q"} 1000+100x120`, 80 * time.Minute, true},
	{"PgqueueBacklogGrows", "it shrinks", `pgqueue_queue_ready_tasks{namespace="n",queue="q"} 20000-100x120`, 80 * time.Minute, false},
	{"PgqueueTasksFail", "every third", "pgqueue_tasks_failed_total{namespace=\"n\",queue=\"q\"} 0+10x60\n" +
		"pgqueue_tasks_released_total{namespace=\"n\",queue=\"q\"} 0+20x60", 40 * time.Minute, true},
	{"PgqueueTasksFail", "one in a hundred", "pgqueue_tasks_failed_total{namespace=\"n\",queue=\"q\"} 0+1x60\n" +
		"pgqueue_tasks_released_total{namespace=\"n\",queue=\"q\"} 0+99x60", 40 * time.Minute, false},
	{"PgqueueTasksFail", "nothing happens", "pgqueue_tasks_failed_total{namespace=\"n\",queue=\"q\"} 0x60\n" +
		"pgqueue_tasks_released_total{namespace=\"n\",queue=\"q\"} 0x60", 40 * time.Minute, false},
	{"PgqueueTasksExpire", "some", `pgqueue_tasks_expired_total{namespace="n",queue="q"} 0+1x60`, 30 * time.Minute, true},
	{"PgqueueTasksExpire", "none any more", `pgqueue_tasks_expired_total{namespace="n",queue="q"} 0 5x60`, 40 * time.Minute, false},
	{"PgqueueLeasesExpire", "workers die", `pgqueue_tasks_rescued_total{namespace="n",queue="q"} 0+2x60`, 40 * time.Minute, true},
	{"PgqueueLeasesExpire", "one died", `pgqueue_tasks_rescued_total{namespace="n",queue="q"} 0 3x60`, 10 * time.Minute, false},
	{"PgqueueChoreFails", "in every process", "pgqueue_chore_runs_total{chore=\"prune\",result=\"ok\"} 5x60\n" +
		"pgqueue_chore_runs_total{chore=\"prune\",result=\"error\"} 0+6x60", 20 * time.Minute, true},
	{"PgqueueChoreFails", "now and then", "pgqueue_chore_runs_total{chore=\"prune\",result=\"ok\"} 0+6x60\n" +
		"pgqueue_chore_runs_total{chore=\"prune\",result=\"error\"} 0+1x60", 20 * time.Minute, false},
	{"PgqueueChorePassesOver", "again and again", `pgqueue_chore_faults_total{chore="tick"} 0+6x60`, 40 * time.Minute, true},
	{"PgqueueChorePassesOver", "mended", `pgqueue_chore_faults_total{chore="tick"} 0 6x60`, 50 * time.Minute, false},
	{"PgqueueChoreLags", "behind", `pgqueue_chore_lag_seconds{chore="promote",instance="a"} 60x60`, 20 * time.Minute, true},
	{"PgqueueChoreLags", "another keeps up", "pgqueue_chore_lag_seconds{chore=\"promote\",instance=\"a\"} 60x60\n" +
		"pgqueue_chore_lag_seconds{chore=\"promote\",instance=\"b\"} 0x60", 20 * time.Minute, false},
	{"PgqueueTicksLate", "by minutes", "pgqueue_tick_lateness_seconds_bucket{le=\"60\"} 0x60\n" +
		"pgqueue_tick_lateness_seconds_bucket{le=\"300\"} 0+1x60\npgqueue_tick_lateness_seconds_bucket{le=\"+Inf\"} 0+1x60", 40 * time.Minute, true},
	{"PgqueueTicksLate", "on time", "pgqueue_tick_lateness_seconds_bucket{le=\"1\"} 0+1x60\n" +
		"pgqueue_tick_lateness_seconds_bucket{le=\"+Inf\"} 0+1x60", 40 * time.Minute, false},
	{"PgqueueListenerDeaf", "deaf", `pgqueue_listener_connected{instance="a"} 0x60`, 20 * time.Minute, true},
	{"PgqueueListenerDeaf", "hears", `pgqueue_listener_connected{instance="a"} 1x60`, 20 * time.Minute, false},
	{"PgqueuePoolExhausted", "calls wait", `pgqueue_pool_wait_seconds_total{instance="a"} 0+120x60`, 20 * time.Minute, true},
	{"PgqueuePoolExhausted", "hardly any", `pgqueue_pool_wait_seconds_total{instance="a"} 0+1x60`, 20 * time.Minute, false},
	{"PgqueueStoreSlow", "slow", `pgqueue:store_call_seconds:p99_5m{op="retain_tasks"} 2x60`, 20 * time.Minute, true},
	{"PgqueueStoreSlow", "quick", `pgqueue:store_call_seconds:p99_5m{op="retain_tasks"} 0.01x60`, 20 * time.Minute, false},
	{"PgqueueStoreErrors", "the database is away", `pgqueue_store_errors_total{op="ping",kind="unavailable"} 0+30x60`, 20 * time.Minute, true},
	{"PgqueueStoreErrors", "callers' mistakes", `pgqueue_store_errors_total{op="get_queue",kind="not_found"} 0+600x60`, 20 * time.Minute, false},
	{"PgqueueCallersRefused", "a worker with an expired token", `pgqueue_access_refused_total{action="none",reason="unauthenticated"} 0+30x60`, 40 * time.Minute, true},
	{"PgqueueCallersRefused", "a slip", `pgqueue_access_refused_total{action="queue.manage",reason="permission_denied"} 0 3x60`, 40 * time.Minute, false},
	{"PgqueueTokensExpire", "one", `pgqueue_tokens_expiring{instance="a"} 1x120`, 90 * time.Minute, true},
	{"PgqueueTokensExpire", "none", `pgqueue_tokens_expiring{instance="a"} 0x120`, 90 * time.Minute, false},
}

// TestAlerts runs the rule of each alert in Prometheus's own engine.
func TestAlerts(t *testing.T) {
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{
		MaxSamples: 100_000, Timeout: 10 * time.Second, LookbackDelta: 5 * time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
	})
	byName := map[string]rulefmt.Rule{}
	for _, r := range parseRules(t) {
		if r.Alert != "" {
			byName[r.Alert] = r
		}
	}
	tested := map[string][2]bool{}
	for _, c := range alerts {
		t.Run(c.alert+": "+c.name, func(t *testing.T) {
			r, ok := byName[c.alert]
			if !ok {
				t.Fatal("there is no such alert")
			}
			v := tested[c.alert]
			v[0], v[1] = v[0] || c.firing, v[1] || !c.firing
			tested[c.alert] = v
			storage := promqltest.LoadedStorage(t, "load 1m\n\t"+strings.ReplaceAll(c.series, "\n", "\n\t"))
			defer func() { _ = storage.Close() }()
			expr, err := promQL.ParseExpr(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			rule := rules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), 0, labels.FromMap(r.Labels), labels.FromMap(r.Annotations),
				labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
			query := rules.EngineQueryFunc(engine, storage)
			for at := time.Duration(0); at <= c.at; at += time.Minute {
				if _, err := rule.Eval(context.Background(), 0, time.Unix(0, 0).Add(at), query, nil, 0); err != nil {
					t.Fatal(err)
				}
			}
			firing := slices.ContainsFunc(rule.ActiveAlerts(), func(a *rules.Alert) bool { return a.State == rules.StateFiring })
			if firing != c.firing {
				t.Errorf("firing: %v after %v, want %v", firing, c.at, c.firing)
			}
		})
	}
	for name := range byName {
		if v := tested[name]; !v[0] || !v[1] {
			t.Errorf("%s is not tested to fire and to be quiet", name)
		}
	}
}

// TestRunbooks follows the link of each alert.
func TestRunbooks(t *testing.T) {
	b, err := os.ReadFile(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range parseRules(t) {
		if r.Alert == "" {
			continue
		}
		_, anchor, ok := strings.Cut(r.Annotations["runbook_url"], "/docs/operations.md#")
		if !ok || r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s lacks a summary, a severity or a runbook", r.Alert)
		}
		if anchor != strings.ToLower(r.Alert) || !regexp.MustCompile(`(?m)^#+ `+r.Alert+`$`).Match(b) {
			t.Errorf("%s has no section in docs/operations.md", r.Alert)
		}
	}
}

// TestDocsListMetrics checks that docs/operations.md names every exposed metric.
func TestDocsListMetrics(t *testing.T) {
	b, err := os.ReadFile(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for name := range exposedMetrics(t) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if !regexp.MustCompile("`" + base + "[`{]").Match(b) {
			t.Errorf("docs/operations.md does not list %s", base)
		}
	}
}

// TestMetricsExist checks that every metric of the rules and the dashboard exists after some work.
func TestMetricsExist(t *testing.T) {
	exposed := exposedMetrics(t)
	recorded := map[string]bool{}
	for _, r := range parseRules(t) {
		if r.Record != "" {
			recorded[r.Record] = true
		}
	}
	check := func(where, expr string) {
		t.Helper()
		parsed, err := promQL.ParseExpr(expr)
		if err != nil {
			t.Errorf("%s: %v\n%s", where, err, expr)
			return
		}
		parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
			if v, ok := n.(*parser.VectorSelector); ok && v.Name != "up" && !recorded[v.Name] && !exposed[v.Name] {
				t.Errorf("%s: there is no metric %s", where, v.Name)
			}
			return nil
		})
	}
	for _, r := range parseRules(t) {
		check(r.Alert+r.Record, r.Expr)
	}
	var dashboard struct {
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			Title, Type string
			Targets     []struct {
				Expr       string
				Exemplar   bool
				Datasource struct{ UID string }
			}
		}
	}
	b, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	panels, exemplars := 0, map[string]bool{}
	vars := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$queue", ".*")
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			panels++
			check(p.Title, vars.Replace(target.Expr))
			if target.Exemplar {
				exemplars[histogram.FindString(target.Expr)] = true
			}
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s reads from %q, not from the variable", p.Title, target.Datasource.UID)
			}
		}
	}
	// A test of the telemetry shows that the samples of these carry traces.
	want := map[string]bool{
		"pgqueue_worker_run_seconds_bucket": true, "pgqueue_worker_end_to_end_seconds_bucket": true,
		"pgqueue_http_request_seconds_bucket": true, "pgqueue_store_call_seconds_bucket": true,
	}
	if !maps.Equal(exemplars, want) {
		t.Errorf("exemplars are asked of %v, want %v", exemplars, want)
	}
	if panels < 20 {
		t.Errorf("only %d targets were looked at", panels)
	}
	var names []string
	for _, v := range dashboard.Templating.List {
		names = append(names, v.Name)
	}
	if !slices.Equal(names, []string{"datasource", "namespace", "queue"}) {
		t.Errorf("variables are %v", names)
	}
}
