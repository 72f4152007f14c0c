package jsonschema_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/jsonschema"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

// compile compiles a schema that is good.
func compile(t *testing.T, source string) schema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(t.Context(), json.RawMessage(source))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFaults pins pointers and rules. The report shows no value of the payload.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ source, payload, want string }{
		{`{"type": "object"}`, `1`, `must be object, got number`},
		{`{"type": ["object", "array", "null"]}`, `1`, `must be null, array or object, got number`},
		{`{"properties": {"a": {"type": "integer"}}}`, `{"a": 1.5}`, `/a must be integer, got number`},
		{`{"properties": {"a": {"type": "integer"}}}`, `{"a": 1.0}`, ``},
		{`{"properties": {"a~/b": {"items": {"type": "null"}}}}`, `{"a~/b": [null, 1]}`, `/a~0~1b/1 must be null, got number`},
		{`{"required": ["a", "b"]}`, `{"a": 1}`, `must have the fields "b"`},
		{`{"required": ["a", "b", "c", "d", "e", "f", "g"]}`, `{}`, `must have the fields "a", "b", "c", "d", "e" and 2 more`},
		{`{"dependentRequired": {"a": ["b"]}}`, `{"a": 1}`, `must have the fields "b" beside "a"`},
		{`{"additionalProperties": false}`, `{"b": 1, "a": 2}`, `must not have the fields "a", "b"`},
		{`{"propertyNames": {"maxLength": 1}}`, `{"ab": 1}`, `must not have the name "ab", must have at most 1 characters, got 2`},
		{`{"enum": ["a", 1, null]}`, `"secret"`, `must be one of the listed values`},
		{`{"enum": ["a", 1, null]}`, `1.0`, ``},
		{`{"enum": [[1], {"a": 2}]}`, `{"a": 3}`, `must be one of the listed values`},
		{`{"const": 9007199254740993}`, `9007199254740992`, `must be one of the listed values`},
		{`{"const": {"a": [1]}}`, `{"a": [1.0]}`, ``},
		{`{"minimum": 1, "maximum": 5}`, `7`, `must be at most 5`},
		{`{"exclusiveMinimum": 1.5}`, `1.5`, `must be above 1.5`},
		{`{"exclusiveMaximum": 9007199254740993}`, `9007199254740993`, `must be below 9007199254740993`},
		{`{"maximum": 9007199254740992}`, `9007199254740993`, `must be at most 9007199254740992`},
		{`{"multipleOf": 0.01}`, `0.07`, ``},
		{`{"multipleOf": 3}`, `1e1`, `must be a multiple of 3`},
		{`{"multipleOf": 3}`, `-9`, ``},
		{`{"pattern": "^[a-z]+$"}`, `"Secret"`, `must match "^[a-z]+$"`},
		{`{"minLength": 3}`, `"é"`, `must have at least 3 characters, got 1`},
		{`{"minItems": 2, "maxItems": 0}`, `[1]`, `must have at most 0 items, got 1, must have at least 2 items, got 1`},
		{`{"minProperties": 2}`, `{}`, `must have at least 2 fields, got 0`},
		{`{"maxProperties": 0}`, `{"a": 1}`, `must have at most 0 fields, got 1`},
		{`{"uniqueItems": true}`, `[1, 2, 1.0]`, `must have unique items, got equal ones at 0 and 2`},
		{`{"contains": {"type": "null"}}`, `[1]`, `/0 must be null, got number, must contain an item that matches`},
		{`{"contains": true, "minContains": 2}`, `[1]`, `must contain at least 2 items that match, got 1`},
		{`{"contains": true, "maxContains": 1}`, `[1, 2]`, `must contain at most 1 items that match, got 2`},
		{`{"not": {}}`, `1`, `must not match the schema of not`},
		{`{"anyOf": [{"type": "null"}, {"minimum": 5}]}`, `1`, `must be at least 5, must be null, got number, must match one of the schemas of anyOf`},
		{`{"oneOf": [true, true]}`, `1`, `must match exactly one of the schemas of oneOf`},
		{`{"properties": {"a": false}}`, `{"a": 1}`, `/a must be absent`},
		{`false`, `1`, `must be absent`},
		{`true`, `1`, ``},
		{`{"format": "email", "contentEncoding": "base64"}`, `"x"`, ``},
		{`{"$ref": "https://json-schema.org/draft/2020-12/schema"}`, `{"type": 1}`, `/type`},
	} {
		report, err := compile(t, c.source).Validate(t.Context(), json.RawMessage(c.payload))
		if err != nil {
			t.Errorf("%s, %s: %v", c.source, c.payload, err)
			continue
		}
		if got := sorted(report.String()); got != sorted(c.want) && (c.want != "/type" || !strings.Contains(got, c.want)) {
			t.Errorf("%s, %s: got %q, want %q", c.source, c.payload, report, c.want)
		}
	}
}

// sorted brings the faults of a list into one order.
func sorted(list string) string {
	return strings.Join(slices.Sorted(strings.SplitSeq(list, ", ")), ", ")
}

// TestManyFaults: a report lists the first 20 of the faults, by their pointers.
func TestManyFaults(t *testing.T) {
	s := compile(t, `{"items": {"type": "string"}}`)
	report, err := s.Validate(t.Context(), json.RawMessage("["+strings.Repeat("1,", 99)+"1]"))
	if err != nil || len(report.Faults) != schema.MaxFaults || !report.More || report.Faults[0].Pointer != "/0" || report.Faults[1].Pointer != "/1" {
		t.Errorf("got %+v, %v", report, err)
	}

	long := `{"` + strings.Repeat("a", 10_000) + `": {"b": 1}}`
	report, err = compile(t, `{"additionalProperties": {"additionalProperties": false}}`).Validate(t.Context(), json.RawMessage(long))
	if err != nil || len(report.Err("payload").Error()) > 1_000 {
		t.Errorf("got %d bytes, %v", len(report.Err("payload").Error()), err)
	}
}

// TestWrongPayloads: a payload that cannot be checked is an error.
func TestWrongPayloads(t *testing.T) {
	s := compile(t, `{}`)
	for _, payload := range []string{``, `{`, `nope`, strings.Repeat("[", 129) + strings.Repeat("]", 129)} {
		if _, err := s.Validate(t.Context(), json.RawMessage(payload)); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%.20s: got %v", payload, err)
		}
	}
}

// TestEndOfContext: a validation and a compile end with the context of their caller.
func TestEndOfContext(t *testing.T) {
	s := compile(t, `{"items": {"items": {"type": "integer"}}}`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	payload := "[" + strings.Repeat("[1,2,3],", 5_000) + "[]]"
	if _, err := s.Validate(ctx, json.RawMessage(payload)); queue.KindOf(err) != queue.KindCanceled {
		t.Errorf("got %v", err)
	}
	if _, err := jsonschema.NewCompiler().Compile(ctx, json.RawMessage(`{}`)); err != nil && queue.KindOf(err) != queue.KindCanceled {
		t.Errorf("got %v", err)
	}
}

// TestCompilesAreBounded: a compile beyond its time is refused, and one that finds no slot says so.
func TestCompilesAreBounded(t *testing.T) {
	slow := jsonschema.NewCompilerWithin(time.Nanosecond)
	big := `{"properties": {` + strings.TrimSuffix(patterns(3_000), ",") + `}}`
	_, err := slow.Compile(t.Context(), json.RawMessage(big))
	if kind := queue.KindOf(err); kind != queue.KindInvalid && kind != queue.KindExhausted {
		t.Errorf("got %v", err)
	}

	busy := jsonschema.NewCompilerWithin(10 * time.Millisecond)
	free := busy.TakeSlots()
	if _, err := busy.Compile(t.Context(), json.RawMessage(`{}`)); queue.KindOf(err) != queue.KindExhausted {
		t.Errorf("got %v", err)
	}
	free()
	slow.TakeSlots()() // waits for the compile that went on
}

// TestValidationsAtOnce: callers at the same time do not disturb one another.
func TestValidationsAtOnce(t *testing.T) {
	s := compile(t, `{"properties": {"n": {"minimum": 10, "pattern": "^a+$"}}, "required": ["n"]}`)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 200 {
				n := (i + j) % 20
				report, err := s.Validate(t.Context(), json.RawMessage(fmt.Sprintf(`{"n": %d}`, n)))
				if err != nil || report.OK() != (n >= 10) {
					t.Errorf("%d: got %v, %v", n, report, err)
				}
			}
		})
	}
	group.Wait()
	if s.Bytes() < 1_000 {
		t.Errorf("got %d bytes", s.Bytes())
	}
}
