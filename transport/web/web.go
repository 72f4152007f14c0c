package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:generate env GOWORK=off go -C ../../tools run ./ui ../transport/web

// files holds the built page.
//
//go:embed all:dist
var files embed.FS

// policy allows nothing but the files and the API of the own origin. No script can turn a text into markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"manifest-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// media has the type of each kind of file. The registry of the system may say otherwise, so it is not asked.
var media = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// keepSeconds is the time for which a browser keeps a file with its version in the link: a year, the usual most.
const keepSeconds = 365 * 24 * 60 * 60

// Config says how the page reaches the API.
type Config struct {
	// API is the path of the REST API relative to the path of the dashboard, such as ../api.
	API string
	// Root is the path of the server's other routes relative to the path of the dashboard, such as ../.
	Root string
	// Namespace is shown at first: the one of requests without a namespace.
	Namespace string
	// Home is the path of the dashboard at the server, to which a sign-in leads back.
	Home string
	// Login is the path of the sign-in at an identity provider relative to the path of the dashboard; "" = there is none.
	Login string
	// Version is that of the program; the page shows it.
	Version string
}

// file is one embedded file in both encodings.
type file struct {
	media, etag   string
	plain, zipped []byte
}

// Handler serves the dashboard below its own path. It is safe for concurrent use, and holds all files in memory.
type Handler struct {
	config Config
	files  map[string]file
	page   string // index.html with the places of Config and of the versions filled in; the base is still open
}

// New returns a handler for the embedded files. Mount it with http.StripPrefix at a path that ends with a slash.
func New(config Config) (*Handler, error) {
	h := &Handler{config: config, files: map[string]file{}}
	names, err := fs.Glob(files, "dist/*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		one, err := newFile(path.Ext(name), content)
		if err != nil {
			return nil, err
		}
		h.files[path.Base(name)] = one
	}

	index, ok := h.files["index.html"]
	if !ok {
		return nil, errors.New("web: dist/index.html must be there, got no such file; run make generate")
	}
	h.page = h.fillPage(string(index.plain))
	delete(h.files, "index.html")
	return h, nil
}

// newFile compresses content once, at the start.
func newFile(extension string, content []byte) (file, error) {
	kind, ok := media[extension]
	if !ok {
		return file{}, fmt.Errorf("web: a file of dist must have one of the known types, got %.64q; add it to media", extension)
	}
	sum := sha256.Sum256(content)
	small, err := compress(content)
	return file{media: kind, etag: `"` + hex.EncodeToString(sum[:8]) + `"`, plain: content, zipped: small}, err
}

func compress(content []byte) ([]byte, error) {
	var to bytes.Buffer
	w, err := gzip.NewWriterLevel(&to, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	err = w.Close()
	return to.Bytes(), err
}

// fillPage writes the configuration and the versions of the files into the document.
func (h *Handler) fillPage(document string) string {
	fields := []string{
		"{{api}}", html.EscapeString(h.config.API), "{{root}}", html.EscapeString(h.config.Root), "{{namespace}}", html.EscapeString(h.config.Namespace),
		"{{home}}", html.EscapeString(h.config.Home), "{{login}}", html.EscapeString(h.config.Login), "{{version}}", html.EscapeString(h.config.Version),
	}
	for name, one := range h.files {
		fields = append(fields, "{{v:"+name+"}}", strings.Trim(one.etag, `"`)[:8])
	}
	return strings.NewReplacer(fields...).Replace(document)
}

// ServeHTTP answers GET and HEAD: with a file, or with the page. A path that is not of the page gets 404, and a browser sees the
// page with links onward there.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, fmt.Sprintf("method: must be GET or HEAD, got %.16q; send GET", r.Method), http.StatusMethodNotAllowed)
		return
	}
	setSecurity(w.Header())

	at := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	if one, ok := h.files[at]; ok {
		if version := r.URL.Query().Get("v"); version != "" && strings.HasPrefix(one.etag, `"`+version) {
			w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(keepSeconds)+", immutable")
		} else {
			w.Header().Set("Cache-Control", "no-cache")
		}
		serveFile(w, r, one, http.StatusOK)
		return
	}

	known := isPage(at)
	if !known && !AcceptsPage(r) {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, fmt.Sprintf("path: must be a file or a page of the dashboard, got %.64q; start at its first page", r.URL.Path), http.StatusNotFound)
		return
	}
	h.servePage(w, r, at, known)
}

// servePage answers with the document. Its base leads back to the path of the dashboard.
func (h *Handler) servePage(w http.ResponseWriter, r *http.Request, at string, known bool) {
	base := relativeBase(strings.Count(at, "/"))
	one, err := newFile(".html", []byte(strings.ReplaceAll(h.page, "{{base}}", base)))
	if err != nil {
		http.Error(w, "the page must be compressible, got an error of the server; repeat the request", http.StatusInternalServerError)
		return
	}

	// The page names the present versions of the files, so a browser asks for it each time.
	w.Header().Set("Cache-Control", "no-cache")
	status := http.StatusOK
	if !known {
		status = http.StatusNotFound
	}
	serveFile(w, r, one, status)
}

// relativeBase returns the relative path from a document depth folders below the dashboard.
func relativeBase(depth int) string {
	if depth == 0 {
		return "./"
	}
	return strings.Repeat("../", depth)
}

// serveFile writes one file in an encoding that the browser accepts.
func serveFile(w http.ResponseWriter, r *http.Request, one file, status int) {
	header := w.Header()
	header.Set("Content-Type", one.media)
	header.Set("Vary", "Accept-Encoding")
	content, etag := one.plain, one.etag
	if acceptsGzip(r) {
		header.Set("Content-Encoding", "gzip")
		content, etag = one.zipped, strings.TrimSuffix(one.etag, `"`)+`-gz"`
	}
	header.Set("Etag", etag)
	header.Set("Content-Length", strconv.Itoa(len(content)))
	if status != http.StatusOK {
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(content)
		}
		return
	}
	// A range of a compressed file would be of no use, and http.ServeContent answers If-None-Match.
	r.Header.Del("Range")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// setSecurity sets the headers of every answer.
func setSecurity(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// acceptsGzip reports whether the browser takes a compressed answer. "gzip;q=0" refuses it.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header["Accept-Encoding"], ","), ",") {
		name, quality, weighted := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) != "gzip" {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(quality), "q="), 64)
		return !weighted || err != nil || value > 0
	}
	return false
}

// AcceptsPage reports whether the client asks for a document, as a browser does.
func AcceptsPage(r *http.Request) bool {
	return strings.Contains(strings.Join(r.Header["Accept"], ","), "text/html")
}

// namespaceName is the shape of the first part of a path.
var namespaceName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// The pages behind a namespace: lists, and pages of one object with its name behind.
var (
	lists   = []string{"", "queues", "tasks", "failures", "tickers", "workers", "live", "system", "access"}
	objects = []string{"queue", "task", "ticker"}
)

// isPage reports whether at is the path of a page: "", NAMESPACE/, NAMESPACE/LIST or NAMESPACE/OBJECT/NAME.
func isPage(at string) bool {
	if at == "" {
		return true
	}
	parts := strings.Split(at, "/")
	if !namespaceName.MatchString(parts[0]) {
		return false
	}
	return len(parts) == 2 && slices.Contains(lists, parts[1]) ||
		len(parts) == 3 && slices.Contains(objects, parts[1]) && parts[2] != ""
}
