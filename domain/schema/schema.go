package schema

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The limits of schemas.
const (
	// MaxBytes bounds a schema.
	MaxBytes = 256 << 10
	// MaxFaults bounds the faults of a payload that a report lists.
	MaxFaults = 20
	// MaxDigits bounds the digits of a number.
	MaxDigits = 400
	// MaxExponent bounds the exponent of a number, in both directions.
	MaxExponent = 400
)

// Compiler makes schemas ready for use. It is safe for concurrent use.
type Compiler interface {
	// Compile checks source by [CheckSource] and compiles it. The error is of KindInvalid or KindTooLarge with the field
	// "schema" when source cannot be used, as with a reference that leads outside of it; of KindExhausted while other
	// compiles that take long are under way; and the end of ctx as queue.ContextError gives it.
	Compile(ctx context.Context, source json.RawMessage) (Schema, error)
}

// Schema is a compiled schema. It is safe for concurrent use.
type Schema interface {
	// Validate reports the faults of a payload. A payload that the schema refuses gives a report with faults, and no error.
	// The error is of KindInvalid with the field "payload" when it cannot be checked: it is not JSON, has a number that
	// Scan refuses, or would take too much work. The end of ctx is as queue.ContextError gives it.
	Validate(ctx context.Context, payload json.RawMessage) (Report, error)
	// Bytes is about how many bytes of memory the schema takes, for caches.
	Bytes() int
}

// CheckSource checks the parts of a schema that need no library: at most MaxBytes of one JSON value that queue.CheckJSON
// accepts, an object or a boolean, without numbers that Scan refuses.
func CheckSource(source json.RawMessage) error {
	if err := queue.CheckJSON("schema", source, MaxBytes); err != nil {
		return err
	}
	if _, err := Scan("schema", source); err != nil {
		return err
	}

	switch first := firstByte(source); first {
	case '{', 't', 'f':
		return nil
	default:
		return queue.Invalid("schema", fmt.Sprintf("must be an object such as {\"type\": \"object\"}, true or false, got %.64s", describeJSON(first)))
	}
}

// firstByte returns the first byte that is not white space.
func firstByte(b []byte) byte {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// describeJSON names the kind of value that begins with first.
func describeJSON(first byte) string {
	switch first {
	case '[':
		return "an array"
	case '"':
		return "a text"
	case 'n':
		return "null"
	}
	return "a number"
}
