package restserver

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/swaggest/swgui/v5/static"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// docsPage and docsScript embed Swagger UI, which is embedded too: the browser loads nothing from other servers.
var (
	//go:embed docs/index.html
	docsPage []byte
	//go:embed docs/init.js
	docsScript []byte
)

// docsPolicy allows only the scripts of the page itself. Swagger UI sets styles on its elements.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

func (s *Server) registerDocs() {
	s.mux.HandleFunc("GET /openapi.json", s.serveSpec("application/json", func() ([]byte, error) { return json.MarshalIndent(s.api.OpenAPI(), "", "  ") }))
	s.mux.HandleFunc("GET /openapi.yaml", s.serveSpec("application/yaml", s.OpenAPI))
	s.mux.HandleFunc("GET /docs", servePage("text/html; charset=utf-8", docsPage))
	s.mux.HandleFunc("GET /docs/{$}", func(w http.ResponseWriter, _ *http.Request) {
		// A relative link also works behind a path of a proxy.
		w.Header().Set("Location", "../docs")
		w.WriteHeader(http.StatusFound)
	})
	s.mux.HandleFunc("GET /docs/init.js", servePage("text/javascript; charset=utf-8", docsScript))
	s.mux.HandleFunc("GET /docs/{file}", s.serveDocsFile)
}

// serveSpec serves the description. It renders it for each request, because such requests are rare.
func (s *Server) serveSpec(media string, render func() ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := render()
		if err != nil {
			s.failOutside(w, r, &queue.Error{Kind: queue.KindInternal, Err: err})
			return
		}
		s.gzip(servePage(media, b))(w, r)
	}
}

func servePage(media string, b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", media)
		h.Set("Content-Security-Policy", docsPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(b)
	}
}

var docsMedia = map[string]string{
	"swagger-ui-bundle.js": "text/javascript; charset=utf-8",
	"swagger-ui.css":       "text/css; charset=utf-8",
	"favicon-32x32.png":    "image/png",
}

// serveDocsFile serves the files of Swagger UI, which are embedded in compressed form.
func (s *Server) serveDocsFile(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	media, ok := docsMedia[file]
	if !ok {
		s.failOutside(w, r, &queue.Error{Kind: queue.KindNotFound, Msg: "no such file; see /docs"})
		return
	}

	h := w.Header()
	h.Set("Cache-Control", "max-age=3600")
	if b, err := static.FS.ReadFile(file); err == nil {
		servePage(media, b)(w, r)
		return
	}

	b, err := static.FS.ReadFile(file + ".gz")
	if err == nil && !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var zr *gzip.Reader
		if zr, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(zr)
		}
	} else {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
	}

	if err != nil {
		h.Del("Content-Encoding")
		s.failOutside(w, r, &queue.Error{Kind: queue.KindInternal, Err: err})
		return
	}

	servePage(media, b)(w, r)
}
