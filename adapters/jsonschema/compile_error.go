package jsonschema

import (
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// describeCompile turns an error of the library into one that names the rule.
func describeCompile(err error) error {
	if load, ok := errors.AsType[*jsonschema.LoadURLError](err); ok { // it wraps nothing
		err = load.Err
	}
	if outward, ok := errors.AsType[*outwardError](err); ok {
		return queue.Invalid("schema", fmt.Sprintf(
			"must refer to itself and to JSON Schema only, got a reference to %.64q; copy that schema into $defs",
			strings.TrimPrefix(outward.url, "https://pgqueue.invalid/")))
	}
	if ours, ok := errors.AsType[*queue.Error](err); ok {
		return ours
	}

	if bad, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if invalid, ok := errors.AsType[*jsonschema.ValidationError](bad.Err); ok {
			return queue.Invalid("schema", fmt.Sprintf("must be a JSON Schema 2020-12, got one with faults: %.2000s; correct it", listFaults(invalid)))
		}
	}
	text := strings.ReplaceAll(err.Error(), sourceURL, "")
	return queue.Invalid("schema", fmt.Sprintf("must be a JSON Schema 2020-12, got a fault: %.256s; correct it", text))
}

// shorten cuts s to at most n bytes of whole characters.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
