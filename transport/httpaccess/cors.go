package httpaccess

import (
	"net/http"
	"strings"
)

// exposed are the headers of answers that pages may read beside those that they always may: of REST, then of gRPC-Web.
var exposed = strings.Join([]string{
	"ETag", "Idempotency-Replayed", "Retry-After", "X-Request-Id", "Allow", "WWW-Authenticate",
	"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin",
}, ", ")

const (
	allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	// preflightAge is for how long a browser need not ask again, in seconds. Chromium takes at most 2 hours.
	preflightAge = "7200"
)

// isPreflight says whether a browser asks if it may send what comes next.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// allowOrigin lets the page that sent r read the answer.
func allowOrigin(h http.Header, r *http.Request) {
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	if !isPreflight(r) {
		h.Set("Access-Control-Expose-Headers", exposed)
	}
}

// answerPreflight says yes: the origin is trusted, so it may send any header with any method that there is.
func answerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network")
	h.Set("Access-Control-Allow-Methods", allowedMethods)
	if asked := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", "); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" { // a public page asks for a private address
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	h.Set("Access-Control-Max-Age", preflightAge)
	w.WriteHeader(http.StatusNoContent)
}
