//go:build unix

package root

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestTerminal is about what only a real terminal shows: each session is the real program in one.
func TestTerminal(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	s.must("create-task", "mail", "--payload", `{"to":"a@b.c"}`)
	const color = "\x1b[34mnew" // as a status is
	for name, c := range map[string]struct {
		env  string
		args string
		has  string
		not  string
	}{
		"a table with colours":                 {"", "tasks", color, `"id"`},
		"no colours with NO_COLOR":             {"NO_COLOR=1", "tasks", "new", "\x1b["},
		"no colours on a terminal without any": {"TERM=dumb", "tasks", "new", "\x1b["},
		"an empty NO_COLOR is none":            {"NO_COLOR=", "tasks", color, `"id"`},
		"JSON is indented":                     {"", "tasks -o json", "{\r\n  \"count\": 1,\r\n  \"body\": [\r\n    {\r\n      \"id\": 1,", "\x1b["},
		"NDJSON is a line each":                {"", "tasks -o ndjson", `{"id":1,`, "\r\n  "},
		"errors have no colours with NO_COLOR": {"NO_COLOR=1", "queue nix", "pgqueue: get queue", "\x1b["},
	} {
		t.Run(name, func(t *testing.T) {
			sc := newScreen(t, 110, 24)
			env := maps.Clone(s.env)
			if k, v, ok := strings.Cut(c.env, "="); ok {
				env[k] = v
			}
			sc.session(env, strings.Fields(c.args)...)
			sc.await("exit code")
			if raw := sc.written(); !strings.Contains(raw, c.has) || strings.Contains(raw, c.not) {
				t.Errorf("it should have %q and not %q: %q", c.has, c.not, raw)
			}
		})
	}
	t.Run("a table is as wide as the terminal", func(t *testing.T) {
		s.must("create-task", "mail", "--payload", `"`+strings.Repeat("long ", 50)+`"`)
		sc := newScreen(t, 60, 24)
		sc.session(s.env, "tasks")
		sc.await("exit code 0")
		if n := strings.Count(sc.text(), "\n"); n != 4 || !strings.Contains(sc.text(), "…") {
			t.Errorf("it is %d lines:\n%s", n, sc.text())
		}
	})
}

// TestCtrlC presses Ctrl-C in the middle of what takes long: it ends, and the terminal is as it was.
func TestCtrlC(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	for name, c := range map[string]struct {
		args  string
		shows string // when it is under way
		code  int
	}{
		"stats --watch":        {"stats --watch --every 100ms", "READY", 0},
		"stats --watch, piped": {"stats --watch --every 100ms -o ndjson", `"ready":`, 0},
		"events":               {"events", "created", 0},
		"next-ticker":          {"next-ticker", "pulse", 0},
		"top":                  {"top", "q quit", 0},
		"retain-task --wait":   {"retain-task sms --worker w1 --wait 5m", "", 1},
		"await-task":           {"await-task 1 --wait 5m", "", 1},
		"run":                  {"run --addr 127.0.0.1:0 --wait 5m postgres://127.0.0.1:1/x", "waiting for the database", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(t, startServer(t))
			for _, line := range []string{"create-queue mail", "create-queue sms", "create-task mail", "create-ticker pulse --period 100ms"} {
				s.must(strings.Fields(line)...)
			}
			sc := newScreen(t, 110, 24)
			env := maps.Clone(s.env)
			watched := newWatched(t, env["PGQUEUE_URL"], 0)
			env["PGQUEUE_URL"] = watched.url
			sc.session(env, strings.Fields(c.args)...)
			switch {
			case c.args == "events":
				<-watched.answered
				s.must("create-task", "mail")
			case c.shows == "": // until its end there is nothing to see: it is under way when the server was asked
				<-watched.asked
			}
			sc.await(c.shows)
			sc.press("\x03")
			sc.ends(c.code)
			if c.code == 1 && !strings.Contains(sc.text(), "interrupted") {
				t.Errorf("it does not say why:\n%s", sc.text())
			}
		})
	}
	t.Run("import", func(t *testing.T) {
		var file strings.Builder
		for i := range 2500 {
			fmt.Fprintf(&file, "{\"queue\":\"mail\",\"payload\":{\"n\":%d}}\n", i)
		}
		input := filepath.Join(t.TempDir(), "in.ndjson")
		if err := os.WriteFile(input, []byte(file.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		watched := newWatched(t, s.env["PGQUEUE_URL"], 3) // two batches are in, the third does not come to its end
		env := maps.Clone(s.env)
		env["PGQUEUE_URL"] = watched.url
		sc := newScreen(t, 110, 24)
		sc.session(env, "import", input, "--batch", "500", "--parallel", "1")
		sc.await("%")
		<-watched.held
		sc.press("\x03")
		sc.ends(1)
		for _, want := range []string{"1000 tasks created", "the same command continues it", "interrupted"} {
			if !strings.Contains(sc.text(), want) {
				t.Errorf("it does not say %q:\n%s", want, sc.text())
			}
		}
		if strings.Contains(sc.text(), "%") {
			t.Errorf("the bar is still there:\n%s", sc.text())
		}
		if out := s.must("import", input, "--jq", "[.created, .replayed] | @csv"); out != "1500,1000\n" {
			t.Error(out)
		}
	})
}

// watched is a proxy to a server that signals the progress of requests, and holds one back.
type watched struct {
	url      string
	asked    chan struct{} // closed when the first request has come
	answered chan struct{} // closed when its answer begins
	held     chan struct{} // closed when the request that is held back has come
}

// newWatched holds back the nth create of a batch; 0 = none.
func newWatched(t *testing.T, api string, nth int64) *watched {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(api, "/api"))
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{asked: make(chan struct{}), answered: make(chan struct{}), held: make(chan struct{})}
	var asked, answered sync.Once
	var creates atomic.Int64
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(*http.Response) error { answered.Do(func() { close(w.answered) }); return nil },
		FlushInterval:  -1,                                                 // at once
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) {}, // of callers that have gone
	}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Do(func() { close(w.asked) })
		if r.URL.Path == "/api/task/batch" && creates.Add(1) == nth {
			_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the client has gone
			close(w.held)
			<-r.Context().Done()
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(srv.Close)
	w.url = srv.URL + "/api"
	return w
}
