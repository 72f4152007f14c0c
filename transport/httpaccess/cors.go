package httpaccess

import (
	"net/http"
	"strings"
)

// exposed lists the headers of answers that pages may read beside the standard ones: first of REST, then of gRPC-Web.
var exposed = strings.Join([]string{
	"ETag", "Idempotency-Replayed", "Retry-After", "X-Request-Id", "Allow", "WWW-Authenticate",
	"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin",
}, ", ")

const (
	allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	// preflightAge is the time in seconds for which a browser may cache the answer. Chromium uses at most 2 hours.
	preflightAge = "7200"
)

// isPreflight reports whether a browser asks for the permission of its next request.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// allowOrigin allows the page that sent r to read the answer.
func allowOrigin(h http.Header, r *http.Request) {
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	if !isPreflight(r) {
		h.Set("Access-Control-Expose-Headers", exposed)
	}
}

// answerPreflight allows the next request. The origin is trusted, so every header and every method is allowed.
func answerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network")
	h.Set("Access-Control-Allow-Methods", allowedMethods)
	if asked := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", "); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		// A public page asks for a private address.
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	h.Set("Access-Control-Max-Age", preflightAge)
	w.WriteHeader(http.StatusNoContent)
}
