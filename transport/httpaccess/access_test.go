package httpaccess_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

const trusted = "https://app.example.com"

// wrap puts the checks in front of a handler that answers 204 to everything.
func wrap(t *testing.T, change ...func(*httpaccess.Config)) http.Handler {
	t.Helper()
	cfg := httpaccess.Config{
		Hosts: []string{"Queue.example.com.", "10.0.0.7"}, Origins: []string{trusted}, Pages: []string{"/", "/docs", "/docs/"},
		Refuse: func(w http.ResponseWriter, _ *http.Request, status int, err *queue.Error) {
			w.Header().Set("Field", err.Field)
			http.Error(w, err.Error(), status)
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := httpaccess.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
}

// arrive sends r as if it had come in on the local address.
func arrive(h http.Handler, r *http.Request, local string) *httptest.ResponseRecorder {
	if local != "" {
		at, _ := net.ResolveTCPAddr("tcp", local)
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(at)))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestUnknownHostsOnLoopbackAre421(t *testing.T) {
	h := wrap(t)
	for host, known := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LOCALHOST:1": true, "localhost.": true, "localhost.:80": true,
		"127.0.0.1": true, "127.0.0.1:8080": true, "127.9.9.9:8080": true, "[::1]": true, "[::1]:8080": true,
		"[0:0:0:0:0:0:0:1]:80": true, "[::ffff:127.0.0.1]:80": true, "[::1%25lo]": true,
		"queue.example.com": true, "QUEUE.example.com:443": true, "queue.example.com.": true, "10.0.0.7:8080": true,
		"": true, // HTTP/1.0

		"evil.example": false, "evil.example:8080": false, "localhost.evil.example": false, "evillocalhost": false, "a.localhost": false,
		"127.0.0.1.evil.example": false, "queue.example.com.evil.example": false, "sub.queue.example.com": false,
		"10.0.0.8": false, "192.168.0.1:8080": false, "0.0.0.0:8080": false, "[::]:8080": false, "[fe80::1]": false,
		"::1": false, "localhost:evil.example": false, "localhost:80:80": false, "evil.example#localhost": false, "user@localhost": false,
		"localhost..": false, "127.1": false, "0x7f000001": false, "2130706433": false, "ｌocalhost": false, ":8080": false, "[localhost]": false, "[127.0.0.1]": false, "[[::1]]": false, "[::1]x:80": false, "0177.0.0.1": false,
		"127.0.0.256": false, "127.0.0.1:+80": false, "127.0.0.1:0x50": false, "[": false, "]": false,
	} {
		for _, local := range []string{"127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080", ""} {
			r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
			r.Host = host
			r.Header.Set("X-Forwarded-Host", "localhost")
			r.Header.Set("Forwarded", "host=localhost")
			want := http.StatusNoContent
			if !known {
				want = http.StatusMisdirectedRequest
			}
			w := arrive(h, r, local)
			if w.Code != want {
				t.Errorf("Host %q at %q: %d, want %d", host, local, w.Code, want)
			}
			if !known && (w.Header().Get("Field") != "Host" || !strings.Contains(w.Body.String(), "--allowed-host")) {
				t.Errorf("Host %q: %s", host, w.Body)
			}
		}
		r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
		r.Host = host
		if w := arrive(h, r, "192.168.0.1:8080"); w.Code != http.StatusNoContent {
			t.Errorf("Host %q on an address of the network: %d", host, w.Code)
		}
	}
}

// TestUnknownHostsOfBrowsersAre421Elsewhere sends what Chromium and programs send over plain http to an address that is
// not loopback, as the address of a container is with a port published on 127.0.0.1.
func TestUnknownHostsOfBrowsersAre421Elsewhere(t *testing.T) {
	const page = "http://evil.example:8080"
	h := wrap(t)
	browsers := map[string][]string{
		"an address that was typed":       {"GET", "Upgrade-Insecure-Requests", "1", "Accept-Language", "en-US,en;q=0.9"},
		"fetch":                           {"GET", "Referer", page + "/", "Accept-Language", "en-US,en;q=0.9"},
		"fetch that hides its page":       {"GET", "Accept-Language", "*", "Accept-Encoding", "gzip, deflate"},
		"fetch with an empty language":    {"GET", "Accept-Language", "", "User-Agent", "x"},
		"fetch that changes":              {"PUT", "Origin", page},
		"a browser that names its page":   {"GET", "Referer", page + "/"},
		"a WebSocket":                     {"GET", "Origin", page, "Upgrade", "websocket", "Connection", "Upgrade"},
		"Safari, which compresses as all": {"GET", "Accept-Language", "de-DE", "Accept-Encoding", "gzip, deflate"},
	}
	programs := map[string][]string{
		"curl":                 {"GET", "User-Agent", "curl/8", "Accept", "*/*"},
		"Go":                   {"PUT", "User-Agent", "Go-http-client/1.1", "Accept-Encoding", "gzip"},
		"requests of Python":   {"POST", "Accept-Encoding", "gzip, deflate", "Accept", "*/*"},
		"fetch of Node.js":     {"GET", "Accept-Language", "*", "Sec-Fetch-Mode", "cors", "Accept-Encoding", "gzip, deflate"},
		"fetch of Deno":        {"GET", "Accept-Language", "*", "Accept-Encoding", "gzip,br"},
		"PowerShell":           {"GET", "User-Agent", "Mozilla/5.0 (Windows NT; Windows NT 10.0) WindowsPowerShell/5.1"},
		"a browser behind TLS": {"GET", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Accept-Language", "de"},
		"a trusted page":       {"POST", "Origin", trusted, "Accept-Language", "de"},
	}
	send := func(host string, lines []string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(lines[0], "/api/queue", nil)
		r.Host = host
		for i := 1; i < len(lines); i += 2 {
			r.Header[lines[i]] = []string{lines[i+1]}
		}
		return arrive(h, r, "172.17.0.2:8080")
	}
	for name, lines := range browsers {
		for _, host := range []string{"evil.example:8080", "EVIL.example.", "127.0.0.1.evil.example", "localhost.evil.example", "[::1]x", "user@evil.example", "0177.0.0.1", "sub.queue.example.com"} {
			if w := send(host, lines); w.Code != http.StatusMisdirectedRequest || w.Header().Get("Field") != "Host" {
				t.Errorf("%s to %q: %d %s", name, host, w.Code, w.Body)
			}
		}
		if lines[0] != "GET" || lines[1] == "Origin" || strings.Contains(lines[2], page) {
			continue
		}
		for _, host := range []string{"localhost:8080", "127.0.0.1:8080", "192.168.0.1:8080", "[fe80::1]:8080", "server:8080", "queue.example.com"} {
			if w := send(host, lines); w.Code != http.StatusNoContent {
				t.Errorf("%s to %q: %d %s", name, host, w.Code, w.Body)
			}
		}
	}
	for name, lines := range programs {
		for _, host := range []string{"localhost:8080", "server:8080", "pgqueue.prod:8080", "pgqueue.prod.svc.cluster.local", "queue.corp.example", "10.0.0.8"} {
			if w := send(host, lines); w.Code != http.StatusNoContent {
				t.Errorf("%s to %q: %d %s", name, host, w.Code, w.Body)
			}
		}
	}
}

// TestPagesOverPlainHTTPAreKnownByTheirReferer covers browsers that send no Sec-Fetch-Site to another machine.
func TestPagesOverPlainHTTPAreKnownByTheirReferer(t *testing.T) {
	h := wrap(t, func(c *httpaccess.Config) {
		c.Consumes = func(r *http.Request) bool { return r.URL.Path == "/api/ticker/next" }
	})
	for _, x := range []struct {
		name, path, referer string // - = no such header
		want                int
	}{
		{"an image on another site", "/api/queue", "https://evil.example/page", 403},
		{"another port of this host", "/api/queue", "http://10.0.0.5:3000/", 403},
		{"a name that begins like ours", "/api/queue", "http://10.0.0.5:8080.evil.example/", 403},
		{"our own page", "/api/queue", "http://10.0.0.5:8080/docs", 204},
		{"a trusted page", "/api/queue", trusted + "/", 204},
		{"a typed address", "/api/queue", "-", 204},
		{"a link on another site", "/docs", "https://evil.example/page", 204},
		{"a page that hides itself takes a tick", "/api/ticker/next", "-", 403},
		{"a page with an empty name takes a tick", "/api/ticker/next", "", 403},
		{"our own page takes a tick", "/api/ticker/next", "http://10.0.0.5:8080/docs", 204},
	} {
		r := httptest.NewRequest(http.MethodGet, x.path, nil)
		r.Host = "10.0.0.5:8080"
		r.Header.Set("Accept-Language", "de")
		if x.referer != "-" {
			r.Header.Set("Referer", x.referer)
		}
		if w := arrive(h, r, "10.0.0.5:8080"); w.Code != x.want || x.want == 403 && w.Header().Get("Field") != "Referer" {
			t.Errorf("%s: %d, want %d: %s", x.name, w.Code, x.want, w.Body)
		}
	}

	t.Run("a program takes ticks", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/api/ticker/next", nil)
		r.Host = "10.0.0.5:8080"
		if w := arrive(h, r, "10.0.0.5:8080"); w.Code != 204 {
			t.Error(w.Code)
		}
	})
}

func TestRequestsOfOtherSitesAre403(t *testing.T) {
	h := wrap(t)
	for _, x := range []struct {
		name          string
		origin, fetch string // - = no such header
		want          int
	}{
		{"a program", "-", "-", 204},
		{"the address bar", "-", "none", 204},
		{"our own page", "http://localhost:8080", "same-origin", 204},
		{"our own page, reading", "-", "same-origin", 204},
		{"our own page in an older browser", "HTTP://LocalHost:8080", "-", 204},
		{"a trusted page", trusted, "cross-site", 204},
		{"a trusted page of the same site", trusted, "same-site", 204},
		{"a trusted page in an older browser", trusted, "-", 204},

		{"another site", "https://evil.example", "cross-site", 403},
		{"another site, reading without CORS", "-", "cross-site", 403},
		{"another port of this host", "http://localhost:3000", "same-site", 403},
		{"another port, reading without CORS", "-", "same-site", 403},
		{"another site in an older browser", "https://evil.example", "-", 403},
		{"an origin that lies beside what the browser says", "https://evil.example", "same-origin", 403},
		{"a sandboxed frame", "null", "-", 403},
		{"no origin at all", "", "-", 403},
		{"our host on another port", "http://localhost", "-", 403},
		{"our host under a scheme of an extension", "chrome-extension://localhost:8080", "-", 403},
		{"a name that begins like ours", "http://localhost:8080.evil.example", "-", 403},
		{"a trusted name that goes on", trusted + ".evil.example", "cross-site", 403},
		{"a trusted name without TLS", "http://app.example.com", "cross-site", 403},
		{"a trusted name on another port", trusted + ":8443", "cross-site", 403},
		{"a value that no browser sends", "-", "sameorigin", 403},
		{"two values", "-", "same-origin|cross-site", 403},
		{"an empty value", "-", "", 204},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			r := httptest.NewRequest(method, "/api/queue", nil)
			r.Host = "localhost:8080"
			if x.origin != "-" {
				r.Header.Set("Origin", x.origin)
			}
			if x.fetch != "-" {
				r.Header["Sec-Fetch-Site"] = strings.Split(x.fetch, "|")
			}
			w := arrive(h, r, "")
			if w.Code != x.want {
				t.Errorf("%s: %s %d, want %d", x.name, method, w.Code, x.want)
			}
			if w.Code == 403 && !strings.Contains(w.Body.String(), "--cors-origin") {
				t.Errorf("%s: %s does not say what to do", x.name, w.Body)
			}
			if allowed := w.Header().Get("Access-Control-Allow-Origin"); (allowed == trusted) != (x.origin == trusted) || allowed != "" && allowed != trusted {
				t.Errorf("%s: allowed is %q", x.name, allowed)
			}
		}
	}
	t.Run("two origins are none", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
		r.Host = "localhost"
		r.Header["Origin"] = []string{trusted, "https://evil.example"}
		if w := arrive(h, r, ""); w.Code != 403 {
			t.Error(w.Code)
		}
	})
	t.Run("a proxy that speaks TLS for us", func(t *testing.T) {
		for _, host := range []string{"queue.example.com", "queue.example.com:443"} {
			r := httptest.NewRequest(http.MethodPost, "/api/queue", nil)
			r.Host = host
			r.Header.Set("Origin", "https://queue.example.com")
			if w := arrive(h, r, ""); w.Code != 204 {
				t.Error(host, w.Code)
			}
		}
	})
}

func TestLinksLeadToPagesOnly(t *testing.T) {
	h := wrap(t)
	for _, x := range []struct {
		method, path, mode, dest string
		want                     int
	}{
		{"GET", "/", "navigate", "document", 204},
		{"GET", "/docs", "navigate", "document", 204},
		{"GET", "/docs/init.js", "navigate", "", 204},
		{"GET", "/docs", "navigate", "iframe", 403},
		{"GET", "/docs", "no-cors", "script", 403},
		{"POST", "/docs", "navigate", "document", 403},
		{"HEAD", "/docs", "navigate", "document", 403},
		{"GET", "/docsx", "navigate", "document", 403},
		{"GET", "/api/queue", "navigate", "document", 403},
		{"GET", "/api/ticker/next", "navigate", "document", 403},
		{"GET", "/api/metrics", "navigate", "document", 403},
		{"GET", "/pgqueue.v1.QueueService/ListQueues", "navigate", "document", 403},
	} {
		r := httptest.NewRequest(x.method, x.path, nil)
		r.Host = "localhost"
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Sec-Fetch-Mode", x.mode)
		if x.dest != "" {
			r.Header.Set("Sec-Fetch-Dest", x.dest)
		}
		if w := arrive(h, r, ""); w.Code != x.want {
			t.Errorf("%+v: %d", x, w.Code)
		}
	}
}

func TestBodiesSayTheirType(t *testing.T) {
	h := wrap(t)
	for media, want := range map[string]int{
		"application/json": 204, "application/json; charset=utf-8": 204, "APPLICATION/JSON": 204, "application/json; null=exact": 204,
		"application/x-ndjson": 204, "application/jsonl": 204, "application/proto": 204, "application/connect+json": 204,
		"application/connect+proto": 204, "application/grpc": 204, "application/grpc+proto": 204, "application/grpc-web+proto": 204,
		"application/grpc-web-text": 204,

		"": 415, "text/plain": 415, "text/plain;charset=UTF-8": 415, "text/plain; application/json": 415, "text/json": 415,
		"application/x-www-form-urlencoded": 415, "multipart/form-data; boundary=x": 415, "application/jsonx": 415,
		"application/json,text/plain": 415, ";;": 415, "*/*": 415,
	} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			for name, body := range map[string]io.Reader{"length": strings.NewReader("{}"), "chunks": io.MultiReader(strings.NewReader("{}"))} {
				r := httptest.NewRequest(method, "/api/queue", body)
				r.Host = "localhost"
				if media != "" {
					r.Header.Set("Content-Type", media)
				}
				if w := arrive(h, r, ""); w.Code != want {
					t.Errorf("%s of %q by %s: %d, want %d", method, media, name, w.Code, want)
				}
			}
		}
	}
	t.Run("two types are none", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodPost, "/api/queue", strings.NewReader("{}"))
		r.Host = "localhost"
		r.Header["Content-Type"] = []string{"application/json", "text/plain"}
		if w := arrive(h, r, ""); w.Code != 415 {
			t.Error(w.Code)
		}
	})
	t.Run("no body needs no type, chunked or not", func(t *testing.T) {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			for _, body := range []io.Reader{nil, io.MultiReader()} {
				r := httptest.NewRequest(method, "/api/task/q?worker=w", body)
				r.Host = "localhost"
				if w := arrive(h, r, ""); w.Code != 204 {
					t.Error(method, w.Code)
				}
			}
		}
	})
	t.Run("the predecessor's ticker stream passes", func(t *testing.T) {
		for _, media := range []string{"", "application/json"} {
			r := httptest.NewRequest(http.MethodGet, "/api/ticker", io.MultiReader(strings.NewReader("null\n")))
			r.Host = "localhost"
			r.Header.Set("Accept", "text/event-stream")
			if media != "" {
				r.Header.Set("Content-Type", media)
			}
			if w := arrive(h, r, ""); w.Code != 204 {
				t.Error(media, w.Code)
			}
		}
	})
}

func TestPreflightsOfTrustedOriginsAreAnswered(t *testing.T) {
	h := wrap(t)
	ask := func(origin, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodOptions, path, nil)
		r.Host = "localhost"
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "connect-protocol-version,content-type,x-grpc-web")
		r.Header.Set("Access-Control-Request-Private-Network", "true")
		return arrive(h, r, "")
	}
	for _, path := range []string{"/api/queue", "/pgqueue.v1.QueueService/ListQueues", "/nothing"} {
		w := ask(trusted, path)
		for header, want := range map[string]string{
			"Access-Control-Allow-Origin": trusted, "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
			"Access-Control-Allow-Headers": "connect-protocol-version,content-type,x-grpc-web", "Access-Control-Max-Age": "7200",
			"Access-Control-Allow-Private-Network": "true", "Access-Control-Allow-Credentials": "",
		} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", path, header, got, want)
			}
		}
		if vary := strings.Join(w.Header().Values("Vary"), ", "); w.Code != 204 || vary != "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network" {
			t.Error(path, w.Code, vary)
		}
		if w := ask("https://evil.example", path); w.Code != 403 || w.Header().Get("Vary") != "Origin" || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Error(path, w.Code, w.Header())
		}
	}
	t.Run("an answer shows its headers, and its Vary header names the origin", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
		r.Host = "localhost"
		r.Header.Set("Origin", trusted)
		w := arrive(h, r, "")
		for _, name := range []string{"ETag", "Idempotency-Replayed", "Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"} {
			if !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), name) {
				t.Error(name, "is hidden")
			}
		}
		if w.Header().Get("Vary") != "Origin" {
			t.Error(w.Header())
		}
	})
	t.Run("without trusted origins there is nothing of CORS", func(t *testing.T) {
		h := wrap(t, func(c *httpaccess.Config) { c.Origins = nil })
		r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
		r.Host = "localhost"
		if w := arrive(h, r, ""); len(w.Header()) != 0 {
			t.Error(w.Header())
		}
	})
}

func TestSettingsAreCheckedAtTheStart(t *testing.T) {
	refuse := func(http.ResponseWriter, *http.Request, int, *queue.Error) {}
	for _, x := range []struct {
		cfg   httpaccess.Config
		field string // "" = good
	}{
		{httpaccess.Config{Origins: []string{"https://app.example.com", "http://localhost:3000", "https://app.example.com/", "tauri://localhost", "https://[::1]:3000"}}, ""},
		{httpaccess.Config{Hosts: []string{"queue.example.com", "::1", "[::1]", "10.0.0.1", "my_host"}}, ""},
		{httpaccess.Config{Origins: []string{"*"}}, "cors-origin"},
		{httpaccess.Config{Origins: []string{"null"}}, "cors-origin"},
		{httpaccess.Config{Origins: []string{""}}, "cors-origin"},
		{httpaccess.Config{Origins: []string{"app.example.com"}}, "cors-origin"},
		{httpaccess.Config{Origins: []string{"https://*.example.com"}}, "cors-origin"},
		{httpaccess.Config{Origins: []string{"https://app.example.com/page"}}, "cors-origin"},
		{httpaccess.Config{Origins: []string{"https://user@app.example.com"}}, "cors-origin"},
		{httpaccess.Config{Hosts: []string{""}}, "allowed-host"},
		{httpaccess.Config{Hosts: []string{"*"}}, "allowed-host"},
		{httpaccess.Config{Hosts: []string{"https://queue.example.com"}}, "allowed-host"},
		{httpaccess.Config{Hosts: []string{"queue.example.com:8080"}}, "allowed-host"},
	} {
		x.cfg.Refuse = refuse
		_, err := httpaccess.New(x.cfg)
		field := ""
		if e, ok := errors.AsType[*queue.Error](err); ok {
			field = e.Field
		}
		if field != x.field || (err != nil) != (x.field != "") {
			t.Errorf("%+v: %v, want an error of %q", x.cfg, err, x.field)
		}
	}
	if _, err := httpaccess.New(httpaccess.Config{}); err == nil {
		t.Error("without Refuse there is nothing to answer with")
	}
	t.Run("origins are compared as browsers write them", func(t *testing.T) {
		h := wrap(t, func(c *httpaccess.Config) { c.Origins = []string{"HTTPS://App.Example.com:443/"} })
		r := httptest.NewRequest(http.MethodGet, "/api/queue", nil)
		r.Host = "localhost"
		r.Header.Set("Origin", trusted)
		if w := arrive(h, r, ""); w.Code != 204 {
			t.Error(w.Code)
		}
	})
}

// TestConnectionsAreLookedAt sends what a recorder cannot: HTTP/2, absolute targets, several Host headers.
func TestConnectionsAreLookedAt(t *testing.T) {
	s := httptest.NewServer(wrap(t))
	defer s.Close()
	for raw, want := range map[string]string{
		"GET /api/queue HTTP/1.1\r\nHost: localhost\r\n\r\n":                                                 "204",
		"GET /api/queue HTTP/1.1\r\nHost: evil.example\r\n\r\n":                                              "421",
		"GET http://evil.example/api/queue HTTP/1.1\r\nHost: localhost\r\n\r\n":                              "421",
		"GET http://localhost/api/queue HTTP/1.1\r\nHost: localhost\r\n\r\n":                                 "204",
		"GET /api/queue HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n":                           "400",
		"GET /api/queue HTTP/1.0\r\n\r\n":                                                                    "204",
		"PUT /api/task HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":           "204",
		"PUT /api/task HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n": "415",
	} {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 12)
		if _, err := io.ReadFull(c, b); err != nil || string(b[9:]) != want {
			t.Errorf("%q: %q %v, want %s", raw, b, err, want)
		}
		c.Close()
	}
	t.Run("HTTP/2's authority is the host", func(t *testing.T) {
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		h2 := httptest.NewUnstartedServer(wrap(t))
		h2.Config.Protocols = &p
		h2.Start()
		defer h2.Close()
		tr := &http.Transport{Protocols: &p}
		defer tr.CloseIdleConnections()
		for host, want := range map[string]int{"localhost": 204, "evil.example": 421} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, h2.URL+"/api/queue", nil)
			r.Host = host
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want || resp.ProtoMajor != 2 {
				t.Error(host, resp.Status, resp.Proto)
			}
		}
	})
}
