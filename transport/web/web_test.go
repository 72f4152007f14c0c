package web_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/transport/web"
)

// get answers a request to a dashboard without a server.
func get(t *testing.T, method, path string, headers ...string) *http.Response {
	t.Helper()
	h, err := web.New(web.Config{API: "../api", Root: "../", Home: "/ui", Namespace: `a"><script>`, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	http.StripPrefix("/ui", h).ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEachPathOfAPageLeadsBackToTheDashboard(t *testing.T) {
	for path, base := range map[string]string{
		"/ui/": "./", "/ui/shop/": "../", "/ui/shop/tasks": "../", "/ui/shop/task/1": "../../", "/ui/shop/queue/mail": "../../",
		"/ui/shop/queue/a%2Fb": "../../", "/ui/a-b_c/live": "../",
	} {
		r := get(t, http.MethodGet, path)
		if page := body(t, r); r.StatusCode != http.StatusOK || !strings.Contains(page, `<base href="`+base+`">`) {
			t.Errorf("%s: got %d without the base %s", path, r.StatusCode, base)
		}
	}
}

func TestAPathThatIsNotOfThePageIsNotFound(t *testing.T) {
	for _, path := range []string{"/ui/shop", "/ui/Shop/", "/ui/shop/nothing", "/ui/shop/task/", "/ui/shop/task/1/more", "/ui/../x/", "/ui/main.tsx", "/ui/shop/app.js", "/ui/favicon.ico"} {
		if r := get(t, http.MethodGet, path); r.StatusCode != http.StatusNotFound || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: a program got %d %s", path, r.StatusCode, r.Header.Get("Content-Type"))
		}
		r := get(t, http.MethodGet, path, "Accept", "text/html,*/*;q=0.8")
		if page := body(t, r); r.StatusCode != http.StatusNotFound || !strings.Contains(page, `id="app"`) {
			t.Errorf("%s: a browser got %d without the page that leads on", path, r.StatusCode)
		}
	}
}

func TestTheDocumentHasTheSettingsAsText(t *testing.T) {
	page := body(t, get(t, http.MethodGet, "/ui/"))
	for _, want := range []string{`data-api="../api"`, `data-root="../"`, `data-home="/ui"`, `data-namespace="a&#34;&gt;&lt;script&gt;"`, `data-version="v1"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the document lacks %s", want)
		}
	}
	if strings.Contains(page, "{{") {
		t.Error("a place in the document is open:", page)
	}
}

func TestAFileWithItsVersionIsKeptForGood(t *testing.T) {
	links := regexp.MustCompile(`(?:href|src)="([^"]+\?v=[0-9a-f]{8})"`).FindAllStringSubmatch(body(t, get(t, http.MethodGet, "/ui/")), -1)
	if len(links) != 3 {
		t.Fatalf("the document names %d files with a version", len(links))
	}
	for _, link := range links {
		name, _, _ := strings.Cut(link[1], "?")
		if r := get(t, http.MethodGet, "/ui/"+link[1]); r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: got %d, %s", link[1], r.StatusCode, r.Header.Get("Cache-Control"))
		}
		for _, other := range []string{name, name + "?v=00000000", name + "?v="} {
			if r := get(t, http.MethodGet, "/ui/"+other); r.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s: got %s", other, r.Header.Get("Cache-Control"))
			}
		}
	}
}

func TestFilesHaveATypeAnETagAndBothEncodings(t *testing.T) {
	for name, media := range map[string]string{"app.js": "text/javascript; charset=utf-8", "app.css": "text/css; charset=utf-8", "icons.svg": "image/svg+xml", "LICENSES.txt": "text/plain; charset=utf-8", "": "text/html; charset=utf-8"} {
		plain := get(t, http.MethodGet, "/ui/"+name, "Accept-Encoding", "br, gzip;q=0")
		text := body(t, plain)
		if plain.Header.Get("Content-Type") != media || plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: got the headers %v", name, plain.Header)
		}

		zipped := get(t, http.MethodGet, "/ui/"+name, "Accept-Encoding", "br, gzip", "Range", "bytes=0-3")
		packed := body(t, zipped)
		reader, err := gzip.NewReader(strings.NewReader(packed))
		if err != nil {
			t.Fatal(name, err)
		}
		var unpacked bytes.Buffer
		if _, err := unpacked.ReadFrom(reader); err != nil || unpacked.String() != text {
			t.Errorf("%s: the compressed form has another content, or the error %v", name, err)
		}
		if zipped.Header.Get("Etag") == plain.Header.Get("Etag") {
			t.Errorf("%s: both encodings have the ETag %s", name, zipped.Header.Get("Etag"))
		}

		again := get(t, http.MethodGet, "/ui/"+name, "Accept-Encoding", "gzip", "If-None-Match", zipped.Header.Get("Etag"))
		if again.StatusCode != http.StatusNotModified || body(t, again) != "" {
			t.Errorf("%s: the known file came again with %d", name, again.StatusCode)
		}
		if head := get(t, http.MethodHead, "/ui/"+name); head.StatusCode != http.StatusOK || body(t, head) != "" || head.ContentLength <= 0 {
			t.Errorf("%s: HEAD got %d, length %d", name, head.StatusCode, head.ContentLength)
		}
	}
}

func TestEachAnswerIsStrict(t *testing.T) {
	for _, path := range []string{"/ui/", "/ui/app.js", "/ui/nothing"} {
		h := get(t, http.MethodGet, path).Header
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
			t.Errorf("%s: got the headers %v", path, h)
		}
	}
	if r := get(t, http.MethodPost, "/ui/"); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST got %d", r.StatusCode)
	}
}

// TestBudgets holds the page to sizes that load at once on a slow line.
func TestBudgets(t *testing.T) {
	for name, most := range map[string]int{"app.js": 130 << 10, "app.css": 20 << 10} {
		r := get(t, http.MethodGet, "/ui/"+name, "Accept-Encoding", "gzip")
		if size := len(body(t, r)); size > most {
			t.Errorf("%s must have at most %d bytes compressed, got %d", name, most, size)
		}
	}
	built, err := filepath.Glob("dist/*")
	if err != nil || len(built) != 5 {
		t.Errorf("dist must have 5 files, got %v %v", built, err)
	}
	for _, file := range built {
		content, err := os.ReadFile(file)
		if err != nil || bytes.Contains(content, []byte("sourceMappingURL")) {
			t.Errorf("%s must have no source map, got one or %v", file, err)
		}
	}
}
