package restserver

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// accepted is what a route takes beside its path and body. It comes from the table in params.go, as OpenAPI does.
type accepted struct {
	query   map[string]*huma.Param
	headers []string
	// creates says that a repeat of the request would make something twice.
	creates bool
}

// acceptedBy collects what op names, and the namespace, which every route takes.
func acceptedBy(op operation, table map[string]*huma.Param) accepted {
	a := accepted{query: map[string]*huma.Param{"namespace": table["namespace"]}, creates: op.creates}
	for _, n := range op.params {
		if p := table[n]; p.In == "query" {
			a.query[p.Name] = p
		} else {
			a.headers = append(a.headers, p.Name)
		}
	}
	return a
}

// checkQuery reads the query, and refuses what the route does not take: what is ignored might have been a filter, or
// the word that makes a request harmless.
func (a accepted) checkQuery(raw string) (map[string][]string, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, queue.Invalid("query", "it is not well-formed")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p := a.query[name]
		switch {
		case p == nil:
			return nil, queue.Invalid(name, "unknown parameter"+a.suggest(name))
		case len(values[name]) > 1 && p.Schema.Type != huma.TypeArray:
			return nil, queue.Invalid(name, "give it once")
		}
		for _, v := range values[name] {
			if strings.Trim(v, ", \t") == "" && name != "cursor" { // the first page's cursor is empty
				return nil, queue.Invalid(name, "must not be empty; leave the parameter out when it is not meant")
			}
		}
	}
	return values, nil
}

// suggest says what the route takes instead.
func (a accepted) suggest(name string) string {
	names := slices.Sorted(maps.Keys(a.query))
	for _, known := range names {
		if similar(name, known) {
			return fmt.Sprintf("; did you mean %s?", known)
		}
	}
	return "; this route takes " + strings.Join(names, ", ")
}

// similar says whether a is b but for case, - and _, or one character that is missing, added, wrong or swapped.
func similar(a, b string) bool {
	a, b = strings.ToLower(strings.ReplaceAll(a, "-", "_")), strings.ToLower(b)
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	return i == len(a) || a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// conditions are headers by which a caller makes a change depend on what is there.
var conditions = []string{"If-Match", "If-None-Match", "If-Unmodified-Since"}

// checkHeaders refuses a condition, or a key against repeats, that the route would ignore: the change would be made
// although the caller said when not to. Reads change nothing, so there caches may ask what they like.
func (a accepted) checkHeaders(r *http.Request) error {
	for _, name := range a.headers {
		switch v := r.Header[name]; {
		case len(v) > 1:
			return queue.Invalid(name, "give it once")
		case len(v) == 1 && strings.TrimSpace(v[0]) == "":
			return queue.Invalid(name, "must not be empty; leave the header out when it is not meant")
		}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	for _, name := range conditions {
		if v := r.Header[name]; len(v) > 0 && !slices.Contains(a.headers, name) && !(name == "If-Match" && v[0] == "*") {
			return &queue.Error{Kind: queue.KindPrecondition, Field: name, Msg: "this route does not look at it; nothing was changed; leave the header out"}
		}
	}
	if a.creates && r.Header[restapi.HeaderKey] != nil && !slices.Contains(a.headers, restapi.HeaderKey) {
		return queue.Invalid(restapi.HeaderKey, "this route does not take it; nothing was created; leave the header out")
	}
	return nil
}
