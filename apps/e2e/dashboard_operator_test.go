//go:build linux

package e2e_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// operatorInput is what operator.mjs gets.
type operatorInput struct {
	Open     string           `json:"open"`
	Chromium string           `json:"chromium"`
	IDs      map[string]int64 `json:"ids"`
	Since    string           `json:"since"`
}

// TestTenTasksOfAnOperator does in a browser what an operator is there for, from the overview on and by what the page shows. Each
// task is the name of a sub-test.
func TestTenTasksOfAnOperator(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	tools := queuetest.FindTools(t, "chromium", "npm")
	chromium, npm := tools[0], tools[1]
	modules := nodeModules(t, npm, "dashboard")
	dsn := postgrestest.Empty(t)
	server := startNodeAt(t, dsn, "--auth", "off")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) // the test is over

	in := operatorInput{Open: strings.TrimSuffix(server.url, "/api"), Chromium: chromium}
	in.IDs, in.Since = seedOperator(t, conn, server.url)
	count := func(text string, args ...any) string {
		var n int64
		if err := conn.QueryRow(t.Context(), text, args...).Scan(&n); err != nil {
			t.Error(err)
		}
		return fmt.Sprint(n)
	}
	walk(t, modules, "operator.mjs", in, map[string]func() string{
		// The failed tasks of mail that are left: those with a timeout, and all.
		"timeouts": func() string {
			return count(`select count(*) from pgqueue.done d join pgqueue.task_error e on e.queue_id = d.queue_id and e.task_id = d.task_id
				join pgqueue.queue q on q.id = d.queue_id where q.name = 'mail' and d.status = 5 and e.error::text like '%timeout%'`)
		},
		"failed": func() string {
			return count("select count(*) from pgqueue.done d join pgqueue.queue q on q.id = d.queue_id where q.name = 'mail' and d.status = 5")
		},
		"concurrency": func() string { return count("select concurrency from pgqueue.queue where name = 'reports'") },
	})
}

// seedOperator makes a shop with everything that the ten tasks are about, part of it in the past. It returns ids, and the time at
// which the oldest task of the stuck queue was created, as the page writes it.
func seedOperator(t *testing.T, conn *pgx.Conn, api string) (ids map[string]int64, since string) {
	t.Helper()
	call := func(method, path, body string) map[string]any { return callAPI(t, method, api+path, "", body) }
	exec := func(text string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), text, args...); err != nil {
			t.Fatalf("%.80s: %v", text, err)
		}
	}
	create := func(name, rest string, n int) (all []int64) {
		for i := range n {
			body := fmt.Sprintf(`{"queue":%q%s}`, name, strings.ReplaceAll(rest, "#", fmt.Sprint(i)))
			all = append(all, readInteger(t, call("POST", "/task", body)["id"]))
		}
		return all
	}
	fail := func(name, fault string, n int) (all []int64) {
		create(name, `,"payload":{"to":"ann#@example.org"}`, n)
		held := call("PUT", fmt.Sprintf("/task/%s?worker=w-2&limit=%d&wait=10s", name, n), "")
		for i, one := range held["body"].([]any) {
			task := one.(map[string]any)
			id := readInteger(t, task["id"])
			token := readInteger(t, task["lease"].(map[string]any)["token"])
			call("PATCH", fmt.Sprintf("/task/%d", id), fmt.Sprintf(`{"fail":true,"token":%d,"result":%s}`, token, strings.ReplaceAll(fault, "#", fmt.Sprint(1000+i))))
			all = append(all, id)
		}
		return all
	}
	for _, body := range []string{
		`{"queue":"mail","retries":0}`, `{"queue":"orders"}`, `{"queue":"reports","concurrency":2}`, `{"queue":"thumbs"}`, `{"queue":"imports"}`, `{"queue":"hooks","retries":0}`,
	} {
		call("POST", "/queue", body)
	}

	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().In(zone)
	noon := time.Date(now.Year(), now.Month(), now.Day()-1, 12, 0, 0, 0, zone)
	const timeout = `{"type":"TimeoutError","message":"timeout after # ms at smtp-2"}`
	const gone = `{"type":"MailboxError","message":"mailbox # is gone"}`
	yesterday := append(fail("mail", timeout, 6), fail("mail", gone, 3)...)
	for _, table := range []string{"done set finished_at = $2, started_at = $2", "task_error set at = $2"} {
		exec("update pgqueue."+table+" where task_id = any ($1)", yesterday, noon)
	}
	exec("update pgqueue.task set created_at = $2 where id = any ($1)", yesterday, noon.Add(-time.Minute))
	fail("mail", timeout, 4)

	old := now.Add(-2 * time.Hour)
	exec("update pgqueue.task set created_at = $2 where id = any ($1)", create("orders", `,"payload":{"order":#},"key":"order-#"`, 12), old)
	reports := create("reports", `,"payload":{"month":#}`, 12)
	exec("update pgqueue.task set created_at = $2 where id = any ($1)", reports, now.Add(-30*time.Minute))
	call("PUT", "/task/reports?worker=w-3&limit=2&lease=1h", "")
	create("thumbs", `,"payload":{"image":"#.jpg"}`, 5)
	call("POST", "/queue/thumbs/pause", "")
	create("imports", `,"payload":{"batch":"wrong"}`, 8)
	hook := fail("hooks", `{"message":"the address ann9@example.org is wrong"}`, 1)[0]
	call("POST", "/ticker", `{"ticker":"nightly","cron":"30 3 * * *","timezone":"Europe/Berlin","queue":"reports"}`)
	call("POST", "/ticker", `{"ticker":"often","period":"5s","queue":"imports","paused":false}`)
	return map[string]int64{"hook": hook, "report": reports[0]}, old.Format("15:04")
}

// huntedInput is what hunted.mjs gets.
type huntedInput struct {
	operatorInput
	Worker string `json:"worker"`
}

// TestReportsOnOtherDashboards tries on this dashboard what users of others have reported.
func TestReportsOnOtherDashboards(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	tools := queuetest.FindTools(t, "chromium", "npm")
	chromium, npm := tools[0], tools[1]
	modules := nodeModules(t, npm, "dashboard")
	dsn := postgrestest.Empty(t)
	server := startNodeAt(t, dsn, "--auth", "off")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) // the test is over

	call := func(method, path, body string) map[string]any { return callAPI(t, method, server.url+path, "", body) }
	in := huntedInput{Worker: `host/1?x=#2%25&"ü" .`}
	in.Open, in.Chromium = strings.TrimSuffix(server.url, "/api"), chromium
	in.IDs, in.Since = seedOperator(t, conn, server.url)
	for _, name := range []string{"large", "many", "odd"} {
		call("POST", "/queue", fmt.Sprintf(`{"queue":%q}`, name))
	}
	for range 30 {
		call("POST", "/task", `{"queue":"large","payload":"`+strings.Repeat("0123456789abcdef", 40_000)+`"}`)
	}
	many := func(n int) {
		call("POST", "/task/batch", "["+strings.TrimSuffix(strings.Repeat(`{"queue":"many"},`, n), ",")+"]")
	}
	many(230)
	call("POST", "/task", `{"queue":"odd"}`)
	call("PUT", "/task/odd?lease=1h&worker="+url.QueryEscape(in.Worker), "")

	call("POST", "/queue", `{"queue":"retried","retries":1000,"retry_delay":"0s","retry_max_delay":"0s"}`)
	in.IDs["attempts"] = readInteger(t, call("POST", "/task", `{"queue":"retried"}`)["id"])
	fault := `{"message":"` + strings.Repeat("a line of a stack trace ", 60) + `"}`
	failOne := func(name, result string) {
		task := call("PUT", "/task/"+name+"?worker=w-9&wait=10s&limit=1", "")["body"].([]any)[0].(map[string]any)
		token := readInteger(t, task["lease"].(map[string]any)["token"])
		call("PATCH", fmt.Sprintf("/task/%d", readInteger(t, task["id"])), fmt.Sprintf(`{"fail":true,"token":%d,"result":%s}`, token, result))
	}
	for range 120 {
		failOne("retried", fault)
	}

	walk(t, modules, "hunted.mjs", in, map[string]func() string{
		"tasks": func() string {
			var n int64
			if err := conn.QueryRow(t.Context(), `select count(*) from pgqueue.task t join pgqueue.queue q on q.id = t.queue_id
				where q.name in ('hooks', 'reports')`).Scan(&n); err != nil {
				t.Error(err)
			}
			return fmt.Sprint(n)
		},
		"create": func() string {
			call("POST", "/task", `{"queue":"thumbs"}`)
			return ""
		},
		"order": func() string {
			call("POST", "/task", `{"queue":"orders"}`)
			return ""
		},
		"fail": func() string {
			call("POST", "/task", `{"queue":"mail"}`)
			failOne("mail", `{"type":"TimeoutError","message":"timeout after 99 ms at smtp-2"}`)
			return ""
		},
		"many": func() string {
			many(7)
			return ""
		},
	})
}
