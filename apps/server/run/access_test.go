package run

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// target is one thing that the port answers.
type target struct {
	method, path, media, body string
	stream                    bool // it would answer until the test ends
}

// targets is everything that the port answers: each route of REST, each call of each service in each of its protocols,
// and what is beside them.
func targets(t *testing.T) []target {
	t.Helper()
	var all []target
	for _, r := range restapi.Routes() {
		path := "/api" + r.URL("x", "y")
		if strings.Contains(r.Path, "{id}") {
			path = "/api" + r.URL("1")
		}
		x := target{method: r.Method, path: path, stream: r == restapi.NextTicker || r == restapi.ListEvents}
		all = append(all, x)
		if r.Method != http.MethodGet && r.Method != http.MethodDelete {
			x.media, x.body = "application/json", "{}"
			all = append(all, x)
		}
	}
	calls := 0
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			if !strings.HasPrefix(string(service.FullName()), "pgqueue.") && !strings.HasPrefix(string(service.FullName()), "grpc.") {
				continue
			}
			for j := range service.Methods().Len() {
				calls++
				path := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				stream := service.Methods().Get(j).IsStreamingServer()
				all = append(all, target{"GET", path, "", "", stream}, target{"POST", path, "application/json", "{}", stream})
				for _, media := range []string{"application/proto", "application/connect+json", "application/grpc", "application/grpc-web+proto"} {
					all = append(all, target{"POST", path, media, "\x00\x00\x00\x00\x00", stream})
				}
			}
		}
		return true
	})
	if calls < 35 {
		t.Fatal("only", calls, "calls are known")
	}
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose", "/openapi.json", "/openapi.yaml", "/nothing", "/api/nothing"} {
		for _, method := range []string{"GET", "POST", "BREW"} {
			all = append(all, target{method: method, path: path})
		}
	}
	return all
}

// TestNoRouteIsForgottenByTheChecks sends each kind of request that a page of another site can make a browser send to
// everything that the port answers. It also sends the allowed requests: a check that refuses all is none.
func TestNoRouteIsForgottenByTheChecks(t *testing.T) {
	const app, evil = "https://app.example.com", "https://evil.example"
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.CORSOrigins, cfg.AllowedHosts = []string{app}, []string{"queue.example.com"}
	s := start(t, cfg)
	ask := func(x target, header ...string) (status int, grpc string, h http.Header) {
		req, err := http.NewRequestWithContext(t.Context(), x.method, s.URL()+x.path, strings.NewReader(x.body))
		if err != nil {
			t.Fatal(err)
		}
		if x.media != "" {
			req.Header.Set("Content-Type", x.media)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
			if header[i] == "Host" {
				req.Host = header[i+1]
			}
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(x, err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Grpc-Status"), resp.Header
	}
	// A call without a body of its protocol, or of a stream, is refused by its transport: here it is enough that it got there.
	checked := func(status int, grpc string) bool {
		return status == 403 || status == 421 || status == 415 && grpc == "" || grpc == "7"
	}
	all := targets(t)
	for _, x := range all {
		for name, header := range map[string][]string{
			"a foreign origin":    {"Origin", evil},
			"a sandboxed frame":   {"Origin", "null"},
			"across sites":        {"Sec-Fetch-Site", "cross-site"},
			"within the site":     {"Sec-Fetch-Site", "same-site"},
			"by a link":           {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"},
			"a preflight's words": {"Origin", evil, "Access-Control-Request-Method", "POST", "Sec-Fetch-Site", "cross-site"},
		} {
			status, grpc, h := ask(x, header...)
			if isGRPC := strings.HasPrefix(x.media, "application/grpc"); isGRPC && grpc != "7" || !isGRPC && status != 403 {
				t.Errorf("%s: %s %s %s: %d %s", name, x.method, x.path, x.media, status, grpc)
			}
			if h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %s %s may be read by %s", name, x.method, x.path, h.Get("Access-Control-Allow-Origin"))
			}
		}
		status, grpc, _ := ask(x, "Host", "evil.example")
		if isGRPC := strings.HasPrefix(x.media, "application/grpc"); isGRPC && grpc != "3" || !isGRPC && status != 421 {
			t.Errorf("rebound: %s %s %s: %d %s", x.method, x.path, x.media, status, grpc)
		}
		if x.body != "" {
			for _, media := range []string{"", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"} {
				y := x
				y.media = media
				if status, _, _ := ask(y); status != 415 {
					t.Errorf("a body of %q: %s %s: %d", media, x.method, x.path, status)
				}
			}
		}
		if x.stream {
			continue
		}
		for name, header := range map[string][]string{
			"a program":           {},
			"the address bar":     {"Sec-Fetch-Site", "none"},
			"our own page":        {"Sec-Fetch-Site", "same-origin", "Origin", s.URL()},
			"a proxy's own page":  {"Sec-Fetch-Site", "same-origin", "Origin", "https://queue.example.com", "Host", "queue.example.com"},
			"a trusted page":      {"Sec-Fetch-Site", "cross-site", "Origin", app},
			"an older browser":    {"Origin", s.URL()},
			"a name of the proxy": {"Host", "queue.example.com"},
		} {
			status, grpc, h := ask(x, header...)
			if checked(status, grpc) && !(status == 415 && isRPCPath(x.path)) {
				t.Errorf("%s: %s %s %s: %d %s", name, x.method, x.path, x.media, status, grpc)
			}
			if name == "a trusted page" && h.Get("Access-Control-Allow-Origin") != app {
				t.Errorf("%s cannot read %s %s", name, x.method, x.path)
			}
		}
		status, _, h := ask(target{method: "OPTIONS", path: x.path}, "Origin", app, "Sec-Fetch-Site", "cross-site", "Access-Control-Request-Method", x.method,
			"Access-Control-Request-Headers", "content-type,connect-protocol-version,x-grpc-web,grpc-timeout")
		if status != 204 || h.Get("Access-Control-Allow-Origin") != app || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "x-grpc-web") {
			t.Errorf("the preflight of %s: %d %v", x.path, status, h)
		}
	}
	t.Logf("%d targets", len(all))

	t.Run("links lead to the pages, and their parts load", func(t *testing.T) {
		// The address bar opens all of them (Sec-Fetch-Site: none, tried above); a link opens pages alone.
		for path, want := range map[string]int{"/": 404, "/docs": 200, "/openapi.json": 403, "/openapi.yaml": 403} {
			if status, _, _ := ask(target{method: "GET", path: path}, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"); status != want {
				t.Error(path, status)
			}
		}
		for _, path := range []string{"/docs/init.js", "/docs/swagger-ui-bundle.js", "/openapi.json"} {
			if status, _, _ := ask(target{method: "GET", path: path}, "Sec-Fetch-Site", "same-origin"); status != 200 {
				t.Error(path, status)
			}
			if status, _, _ := ask(target{method: "GET", path: path}, "Sec-Fetch-Site", "cross-site"); status != 403 {
				t.Error(path, status)
			}
		}
	})
}

// TestPlainHTTPOfBrowsersElsewhere sends requests to an address that is not loopback, where browsers send no Sec-Fetch
// headers. A port that a container publishes on 127.0.0.1 arrives there.
func TestPlainHTTPOfBrowsersElsewhere(t *testing.T) {
	store := newSlow()
	close(store.leave)
	s := start(t, store.config(io.Discard))
	const at, port = "172.17.0.2:8080", "8080"
	local := context.WithValue(t.Context(), http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	send := func(raw string) int {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw + "\r\n")))
		if err != nil {
			t.Fatal(raw, err)
		}
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r.WithContext(local))
		return w.Code
	}

	browser := "Accept-Language: en\r\nAccept-Encoding: gzip, deflate\r\nConnection: close\r\n"
	for request, want := range map[string]int{
		"GET /api/queue HTTP/1.1\r\nHost: evil.example:" + port + "\r\n" + browser:                                     421,
		"PUT /api/task HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n" + browser:                    421,
		"GET http://evil.example/api/queue HTTP/1.1\r\nHost: localhost\r\n" + browser:                                  421,
		"GET /api/queue HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n":                                       200,
		"GET /api/queue HTTP/1.1\r\nHost: localhost:" + port + "\r\n" + browser:                                        200,
		"GET /api/ticker/next HTTP/1.1\r\nHost: " + at + "\r\n" + browser:                                              403,
		"GET /api/ticker HTTP/1.1\r\nAccept: */*, text/event-stream;q=1\r\nHost: " + at + "\r\n" + browser:             403,
		"GET /api/ticker HTTP/1.1\r\nHost: " + at + "\r\n" + browser:                                                   200,
		"GET /docs HTTP/1.1\r\nReferer: https://wiki.example/\r\nHost: " + at + "\r\n" + browser:                       200,
		"GET /api/queue HTTP/1.1\r\nReferer: https://evil.example/\r\nHost: " + at + "\r\n" + browser:                  403,
		"POST /pgqueue.v1.QueueService/ListQueues HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n" + browser:   421,
		"GET /api//ticker/next HTTP/1.1\r\nHost: " + at + "\r\n" + browser:                                             403,
		"GET /api/%74icker/next HTTP/1.1\r\nHost: " + at + "\r\n" + browser:                                            403,
		"GET /api/ticker?x=/ticker/next HTTP/1.1\r\nHost: evil.example\r\nReferer: http://evil.example/\r\n" + browser: 421,
	} {
		if status := send(request); status != want {
			t.Errorf("%q: %d, want %d", request, status, want)
		}
	}
}

func isRPCPath(path string) bool { return isRPCRequest(&http.Request{URL: &url.URL{Path: path}}) }

// TestGeneralOptionsPassTheChecks sends OPTIONS *, which the library would answer without the checks.
func TestGeneralOptionsPassTheChecks(t *testing.T) {
	store := newSlow()
	close(store.leave)
	s := start(t, store.config(io.Discard))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.URL(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque, req.Host = "*", "evil.example"
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("status %d, want 421", resp.StatusCode)
	}
}

// TestRefusalsSayWhatToDo reads them as each protocol's clients do.
func TestRefusalsSayWhatToDo(t *testing.T) {
	store := newSlow()
	close(store.leave)
	s := start(t, store.config(io.Discard))
	refused := func(path, media string) (int, http.Header, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+path, bytes.NewReader([]byte("{}")))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example"
		req.Header.Set("Content-Type", media)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, b
	}
	t.Run("REST", func(t *testing.T) {
		status, h, b := refused("/api/queue", "application/json")
		var p struct {
			Status              int
			Code, Field, Detail string
		}
		if err := json.Unmarshal(b, &p); err != nil || status != 421 || h.Get("Content-Type") != restapi.MediaProblem ||
			p.Status != 421 || p.Code != string(queue.KindInvalid) || p.Field != "Host" || !strings.Contains(p.Detail, "--allowed-host") {
			t.Error(status, h, string(b), err)
		}
	})
	t.Run("Connect", func(t *testing.T) {
		status, _, b := refused("/pgqueue.v1.QueueService/ListQueues", "application/json")
		var e struct{ Code, Message string }
		if err := json.Unmarshal(b, &e); err != nil || status != 421 || e.Code != "invalid_argument" || !strings.Contains(e.Message, "--allowed-host") {
			t.Error(status, string(b), err)
		}
	})
	t.Run("gRPC", func(t *testing.T) {
		status, h, _ := refused("/pgqueue.v1.QueueService/ListQueues", "application/grpc+proto")
		if status != 200 || h.Get("Grpc-Status") != "3" || !strings.Contains(h.Get("Grpc-Message"), "--allowed-host") {
			t.Error(status, h)
		}
	})
	t.Run("metrics count each by the header at fault", func(t *testing.T) {
		for _, header := range [][2]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Content-Type", "text/plain"}} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/api/queue/x/pause", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(header[0], header[1])
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		_, metrics := do(t, "GET", s.URL()+"/api/metrics", "")
		for _, line := range []string{`reason="host"} 3`, `reason="origin"} 1`, `reason="sec-fetch-site"} 1`, `reason="content-type"} 1`} {
			if !strings.Contains(metrics, "pgqueue_http_refused_requests_total{"+line) {
				t.Error("not counted:", line)
			}
		}
	})
}

func TestBadNamesAndOriginsAreRefusedAtTheStart(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"cors-origin":  func(c *Config) { c.CORSOrigins = []string{"*"} },
		"allowed-host": func(c *Config) { c.AllowedHosts = []string{"https://queue.example.com"} },
	} {
		cfg := newSlow().config(io.Discard)
		change(&cfg)
		s, err := Start(t.Context(), cfg)
		if err == nil {
			_ = s.Stop(t.Context())
		}
		if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), field) {
			t.Error(field, err)
		}
	}
}
