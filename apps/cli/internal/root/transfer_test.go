package root

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// breaking is a way to a server that refuses the nth and every later request with a path, until it is mended.
type breaking struct {
	url    string
	left   atomic.Int64
	mended atomic.Bool
}

func newBreaking(t *testing.T, api, path string, n int64) *breaking {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(api, "/api"))
	if err != nil {
		t.Fatal(err)
	}
	b := &breaking{}
	b.left.Store(n)
	proxy := httputil.NewSingleHostReverseProxy(target)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path && b.left.Add(-1) <= 0 && !b.mended.Load() {
			http.Error(w, "broken", http.StatusForbidden) // which no client repeats
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	b.url = srv.URL + "/api"
	return b
}

func TestInterruption(t *testing.T) {
	api := startServer(t)
	s := newShell(t, api)
	s.must("create-queue", "mail")
	var file bytes.Buffer
	for i := range 2500 {
		fmt.Fprintf(&file, "{\"queue\":\"mail\",\"payload\":{\"n\":%d}}\n", i)
	}
	dir := t.TempDir()
	input, output := filepath.Join(dir, "in.ndjson"), filepath.Join(dir, "out.ndjson")
	if err := os.WriteFile(input, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("an import that was interrupted goes on where it was, and makes each task once", func(t *testing.T) {
		b := newBreaking(t, api, "/api/task/batch", 4)
		s.env["PGQUEUE_URL"] = b.url
		code, out, errOut := s.run(false, "", "import", input, "--batch", "500", "--parallel", "1")
		if code != 1 || !strings.Contains(out, `"created":1500`) || !strings.Contains(errOut, "the same command continues it") {
			t.Fatal(code, out, errOut)
		}
		b.mended.Store(true)
		if out := s.must("import", input, "--batch", "500"); !strings.Contains(out, `"created":1000,"replayed":1500`) {
			t.Fatal(out)
		}
		if n := s.must("tasks", "--jq", ".count"); n != "2500\n" {
			t.Fatal(n)
		}
	})
	t.Run("an interrupted export continues and writes each task once", func(t *testing.T) {
		b := newBreaking(t, api, "/api/task", 3)
		s.env["PGQUEUE_URL"] = b.url
		if code, _, errOut := s.run(false, "", "export", output); code != 1 || !strings.Contains(errOut, "the same command continues it") {
			t.Fatal(code, errOut)
		}
		if _, err := os.Stat(output); err == nil {
			t.Fatal("half a file has the name of a whole one")
		}
		b.mended.Store(true)
		if code, _, errOut := s.run(false, "", "export", output); code != 0 || !strings.Contains(errOut, "continues after") {
			t.Fatal(code, errOut)
		}
		got, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for line := range strings.Lines(string(got)) {
			id, _, _ := strings.Cut(line, ",")
			if seen[id] {
				t.Fatalf("%s twice", id)
			}
			seen[id] = true
		}
		if len(seen) != 2500 {
			t.Fatalf("%d tasks", len(seen))
		}
		if rest, _ := filepath.Glob(output + ".*"); len(rest) > 0 {
			t.Errorf("left behind: %v", rest)
		}
	})
	t.Run("an export without its part begins anew, without empty bytes", func(t *testing.T) {
		file := filepath.Join(dir, "gone.ndjson")
		b := newBreaking(t, api, "/api/task", 3)
		s.env["PGQUEUE_URL"] = b.url
		if code, _, errOut := s.run(false, "", "export", file); code != 1 {
			t.Fatal(code, errOut)
		}
		if err := os.Remove(file + ".part"); err != nil {
			t.Fatal(err)
		}
		b.mended.Store(true)
		s.must("export", file)
		got, err := os.ReadFile(file)
		if err != nil || bytes.IndexByte(got, 0) >= 0 || bytes.Count(got, []byte("\n")) != 2500 {
			t.Fatalf("%d lines of 2500, %v", bytes.Count(got, []byte("\n")), err)
		}
	})
	t.Run("a terminal shows how far it is", func(t *testing.T) {
		s.env["PGQUEUE_URL"] = api
		_, out, errOut := s.run(true, "", "import", input, "--batch", "100", "--parallel", "1")
		if !strings.Contains(out, "0 tasks created, 2500 were there from before") || !strings.Contains(errOut, "%") || !strings.HasSuffix(errOut, "\r\x1b[K") {
			t.Errorf("%q %q", out, errOut)
		}
		if _, _, errOut := s.run(true, "", "export", filepath.Join(dir, "again.ndjson")); !strings.Contains(errOut, "40%  1000 tasks") {
			t.Errorf("%q", errOut)
		}
		// Where the tasks themselves go to the terminal it would stand between them.
		if _, out, errOut := s.run(true, "", "export"); strings.Count(out, "\n") != 2500 || errOut != "" {
			t.Errorf("%d bytes %q", len(out), errOut)
		}
	})
}

// hurried is a way to a server that asks for steps of bulk operations that take no time.
func hurried(t *testing.T, api string) string {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(api, "/api"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path != "/api/task/batch" {
			var in map[string]any
			if b, err := io.ReadAll(r.Body); err == nil && json.Unmarshal(b, &in) == nil && in != nil {
				in["within"] = 1
				b, _ = json.Marshal(in)
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/api"
}

func TestLongOperations(t *testing.T) {
	api := startServer(t)
	s := newShell(t, api)
	s.must("create-queue", "mail")
	code, _, errOut := s.run(false, strings.Repeat("{}\n", 2000), "import", "-", "--queue", "mail", "--payloads")
	if code != 0 {
		t.Fatal(errOut)
	}
	t.Run("a bulk operation that breaks says how many it did, and the same command does the rest", func(t *testing.T) {
		b := newBreaking(t, hurried(t, api), "/api/task/cancel", 3)
		s.env["PGQUEUE_URL"] = b.url
		code, out, errOut := s.run(false, "", "cancel-task", "--queue", "mail", "--status", "new", "-o", "json")
		if code != 1 || !strings.Contains(out, `"moved":1000,"more":true,"next":"`) || !strings.Contains(errOut, "stopped after 1000 tasks cancelled; the same command does the rest") {
			t.Fatal(code, out, errOut)
		}
		b.mended.Store(true)
		if out := s.must("cancel-task", "--queue", "mail", "--status", "new", "--jq", ".moved"); out != "1000\n" {
			t.Fatal(out)
		}
	})
	t.Run("what waits again after a retry in steps is in its old order", func(t *testing.T) {
		s.env["PGQUEUE_URL"] = hurried(t, api)
		if out := s.must("retry-task", "--queue", "mail", "--status", "cancelled", "--jq", ".moved"); out != "2000\n" {
			t.Fatal(out)
		}
		s.env["PGQUEUE_URL"] = api
		ids := strings.Fields(s.must("retain-task", "mail", "--worker", "w", "--limit", "2000", "--jq", ".body[].id"))
		for i := range ids {
			if i > 0 && (len(ids[i]) < len(ids[i-1]) || len(ids[i]) == len(ids[i-1]) && ids[i] < ids[i-1]) {
				t.Fatalf("%s comes before %s", ids[i-1], ids[i])
			}
		}
		if len(ids) == 0 {
			t.Fatal("nothing waits")
		}
	})
}

func TestMove(t *testing.T) {
	api := startServer(t)
	s := newShell(t, api)
	s.must("create-queue", "from", "--retries", "0")
	s.must("create-queue", "to")
	const n = 20_000
	var file strings.Builder
	for i := range n {
		fmt.Fprintf(&file, "%d\n", i)
	}
	in := func(text string, args ...string) string {
		code, out, errOut := s.run(false, text, args...)
		if code != 0 {
			t.Fatal(args, code, errOut)
		}
		return out
	}
	in(file.String(), "import", "-", "--queue", "from", "--payloads", "--batch", "300")
	payloads := func(queue string) []string {
		return strings.Fields(s.must("retain-task", queue, "--worker", "w", "--limit", "10000", "--jq", ".body[].payload"))
	}
	t.Run("export and import keep the order", func(t *testing.T) {
		exported := s.must("export", "--queue", "from")
		in(exported, "import", "-", "--queue", "to", "--batch", "700")
		next := 0
		for next < n {
			some := payloads("to")
			if len(some) == 0 {
				t.Fatalf("%d of %d came", next, n)
			}
			for _, p := range some {
				if p != fmt.Sprint(next) {
					t.Fatalf("%s comes where %d should", p, next)
				}
				next++
			}
		}
	})
	t.Run("tasks that did not wait are left out, unless the caller asks for them", func(t *testing.T) {
		first := strings.Fields(s.must("retain-task", "from", "--worker", "w", "--limit", "3", "--jq", ".body[].id"))
		s.must("complete-task", first[0])
		s.must("complete-task", first[1], "--error", `"no"`)
		s.must("create-queue", "again")
		exported := s.must("export", "--queue", "from")
		out := in(exported, "import", "-", "--queue", "again", "-o", "json")
		if !strings.Contains(out, `"created":19997,`) || !strings.Contains(out, `"skipped":0,"not_waiting":{"failed":1,"released":1,"retained":1}`) {
			t.Error(out)
		}
		code, out, _ := s.run(true, exported, "import", "-", "--queue", "again")
		if code != 0 || !strings.Contains(out, "3 lines left out, as they did not wait (1 retained, 1 released, 1 failed); --any-status takes them too") {
			t.Error(code, out)
		}
		if out := in(exported, "import", "-", "--queue", "again", "--any-status", "-o", "json"); !strings.Contains(out, `"created":3,"replayed":19997,`) {
			t.Error(out)
		}
	})
}
