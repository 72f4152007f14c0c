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
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

// accepted is the set of parameters of a route, derived from huma's description of the operation.
type accepted struct {
	// query holds the names of query parameters; true allows repeats.
	query   map[string]bool
	headers []string
	// creates marks a route on which a repeated request would create a second object.
	creates bool
}

// metadataCreates is the key of an operation's metadata that becomes accepted.creates.
const metadataCreates = "creates"

// acceptedBy collects the parameters of op, and the namespace, which every route accepts.
func acceptedBy(op *huma.Operation) accepted {
	a := accepted{query: map[string]bool{"namespace": false}, creates: op.Metadata[metadataCreates] == true}
	for _, p := range op.Parameters {
		switch p.In {
		case "query":
			a.query[p.Name] = p.Schema.Type == huma.TypeArray
		case "header":
			a.headers = append(a.headers, http.CanonicalHeaderKey(p.Name))
		}
	}
	return a
}

// parseQuery reads the query. It refuses unknown, empty and repeated parameters, because an ignored one might have
// been a filter or a dry run.
func (a accepted) parseQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, queue.Invalid("query", "must be well-formed; write names and values with percent-encoding")
	}

	for _, name := range slices.Sorted(maps.Keys(values)) {
		// A misspelt filter that is ignored would select all tasks.
		repeatable, known := a.query[name]
		switch {
		case !known:
			return nil, queue.Invalid(name, "must be a parameter of this route, got an unknown parameter"+a.suggestName(name))
		case len(values[name]) > 1 && !repeatable:
			return nil, queue.Invalid(name, fmt.Sprintf("must be given once, got %d values", len(values[name])))
		}
		for _, v := range values[name] {
			if strings.Trim(v, ", \t") == "" && name != "cursor" {
				// The cursor of the first page is empty.
				return nil, queue.Invalid(name, "must not be empty; leave the parameter out instead")
			}
		}
	}
	return values, nil
}

// suggestName suggests the most similar parameter, or all parameters of the route.
func (a accepted) suggestName(name string) string {
	names := slices.Sorted(maps.Keys(a.query))
	if hint := queue.SuggestName(name, names); hint != "" {
		return hint
	}
	return "; this route takes " + strings.Join(names, ", ")
}

// conditions are headers that make a change depend on the present state.
var conditions = []string{"If-Match", "If-None-Match", "If-Unmodified-Since"}

// checkHeaders refuses repeated and empty headers of the route, and ignored ones of a change. Reads change nothing, so
// caches may send conditions there.
func (a accepted) checkHeaders(r *http.Request) error {
	for _, name := range a.headers {
		values := r.Header[name]
		if len(values) > 1 {
			return queue.Invalid(name, fmt.Sprintf("must be given once, got %d values", len(values)))
		}

		if len(values) == 1 && strings.TrimSpace(values[0]) == "" {
			return queue.Invalid(name, "must not be empty; leave the header out instead")
		}

		if name == "If-Match" && len(values) == 1 {
			if _, err := input.ParseETag(values[0]); err != nil {
				return err
			}
		}
	}

	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	return a.checkIgnored(r)
}

// checkIgnored refuses a header that the route would ignore, although the change depends on it.
func (a accepted) checkIgnored(r *http.Request) error {
	for _, name := range conditions {
		values := r.Header[name]
		if len(values) > 0 && !slices.Contains(a.headers, name) {
			return &queue.Error{
				Kind: queue.KindPrecondition, Field: name,
				Msg: "this route does not support the condition; nothing was changed; leave the header out",
			}
		}
	}

	if _, retains := a.query["request_id"]; retains && r.Header[restapi.HeaderKey] != nil {
		return queue.Invalid(restapi.HeaderKey, "must not come with a retain; nothing was retained; send request_id in the query")
	}
	// A client that sends a key relies on it, and a repeat would create a second object.
	if a.creates && r.Header[restapi.HeaderKey] != nil && !slices.Contains(a.headers, restapi.HeaderKey) {
		return queue.Invalid(restapi.HeaderKey, "must not come with this route; nothing was created; leave the header out")
	}

	return nil
}
