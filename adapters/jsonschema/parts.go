package jsonschema

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxPointerBytes bounds the pointers to all parts of a schema together. The library keeps each of them.
const maxPointerBytes = 4 << 20

// checkParts checks the number of parts of a schema and its dialect. It counts every object and boolean, also those that are
// data.
func checkParts(source json.RawMessage) error {
	document, err := decode(source)
	if err != nil {
		return queue.Invalid("schema", "must be one JSON value: "+err.Error())
	}

	parts, bytes := 0, 0
	var fault error
	walk(document, nil, func(path []string, v any) {
		object, ok := v.(map[string]any)
		if _, isBool := v.(bool); !ok && !isBool {
			return
		}
		parts++
		for _, token := range path {
			bytes += len(token) + 1
		}
		// Other dialects have other keywords, and a schema of them would pass with rules that do not count.
		named, ok := object["$schema"].(string)
		if ok && fault == nil && strings.TrimSuffix(named, "#") != dialect {
			fault = queue.Invalid("schema", fmt.Sprintf("must be of the dialect %s, got $schema %.64q; translate it, or leave $schema out", dialect, named))
		}
	})

	switch {
	case parts > MaxParts:
		return queue.Invalid("schema", fmt.Sprintf("must have at most %d objects and booleans, got %d", MaxParts, parts))
	case bytes > maxPointerBytes:
		return queue.Invalid("schema", fmt.Sprintf("must have paths of at most %d bytes to all of its parts, got %d; shorten its names", maxPointerBytes, bytes))
	}
	return fault
}

// findDynamicAnchors returns the JSON pointers of all objects with a dynamic anchor, for a URL.
func findDynamicAnchors(document any) (pointers []string) {
	walk(document, nil, func(path []string, v any) {
		if object, ok := v.(map[string]any); ok && object["$dynamicAnchor"] != nil {
			var pointer strings.Builder
			for _, token := range path {
				pointer.WriteString("/" + url.PathEscape(escapeToken(token)))
			}
			pointers = append(pointers, pointer.String())
		}
	})
	return pointers
}

// walk calls see for v and each value in it, with the names and indexes that lead to it.
func walk(v any, path []string, see func(path []string, v any)) {
	see(path, v)
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			walk(value, append(path, name), see)
		}
	case []any:
		for i, value := range v {
			walk(value, append(path, strconv.Itoa(i)), see)
		}
	}
}

// tokenEscapes are the escapes of a token of a JSON pointer.
var tokenEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// escapeToken escapes a token of a JSON pointer.
func escapeToken(s string) string { return tokenEscapes.Replace(s) }
