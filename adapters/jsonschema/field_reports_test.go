package jsonschema_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/jsonschema"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestReportsOnOtherValidators tries what users of other validators report. docs/field-reports.md lists the reports.
func TestReportsOnOtherValidators(t *testing.T) {
	t.Run("a schema that refers to a server is refused without a request to it", func(t *testing.T) {
		var requests atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			_, _ = w.Write([]byte(`{}`))
		}))
		defer server.Close()

		for _, form := range []string{`{"$ref": %q}`, `{"$id": %q, "$ref": "other"}`, `{"$schema": %q}`} {
			_, err := jsonschema.NewCompiler().Compile(t.Context(), json.RawMessage(fmt.Sprintf(form, server.URL+"/schema")))
			if queue.KindOf(err) != queue.KindInvalid {
				t.Errorf("%s: got %v", form, err)
			}
		}
		if n := requests.Load(); n != 0 {
			t.Errorf("the server got %d requests", n)
		}
	})

	t.Run("a schema that leads back to itself is refused", func(t *testing.T) {
		for _, source := range []string{
			`{"$ref": ""}`,
			`{"$ref": "#"}`,
			`{"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}`,
		} {
			_, err := jsonschema.NewCompiler().Compile(t.Context(), json.RawMessage(source))
			if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(fmt.Sprint(err), "leads back to itself") {
				t.Errorf("%s: got %v", source, err)
			}
		}
	})

	t.Run("a schema of a tree checks its children, with a reference beside other keywords", func(t *testing.T) {
		wantFaults(t, `{"type": "object", "$ref": "#/$defs/node", "$defs": {"node": {
			"properties": {"name": {"type": "string"}, "child": {"$ref": "#/$defs/node"}}}}}`,
			map[string]string{
				`{"name": "a", "child": {"child": {"name": "b"}}}`: "",
				`{"name": "a", "child": {"child": {"name": 1}}}`:   "/child/child/name",
			})
	})

	t.Run("multiples are exact for large and small numbers", func(t *testing.T) {
		wantFaults(t, `{"multipleOf": 1}`, map[string]string{`1e21`: "", `1.5`: "multiple"})
		wantFaults(t, `{"multipleOf": 11.0}`, map[string]string{`9007199254740995`: "", `9007199254740996`: "multiple"})
		wantFaults(t, `{"multipleOf": 0.1}`, map[string]string{`0.3`: "", `1.2`: "", `0.35`: "multiple"})
		wantFaults(t, `{"multipleOf": 0.0000001}`, map[string]string{`999999999.12345678`: "multiple", `999999999.1234567`: ""})
	})

	t.Run("10,000 unique objects are within the allowed steps, and the equal ones are found", func(t *testing.T) {
		items := make([]string, 10_000)
		for i := range items {
			items[i] = fmt.Sprintf(`{"id": %d, "name": "a"}`, i)
		}
		objects := "[" + strings.Join(items, ",") + "]"
		again := strings.TrimSuffix(objects, "]") + `, {"name": "a", "id": 0}]`
		wantFaults(t, `{"uniqueItems": true}`, map[string]string{objects: "", again: "equal ones at 0 and 10000"})
	})

	t.Run("of a name that an object repeats the last value counts", func(t *testing.T) {
		wantFaults(t, `{"properties": {"a": {"type": "integer"}}}`,
			map[string]string{`{"a": "x", "a": 1}`: "", `{"a": 1, "a": "x"}`: "/a must be integer"})
	})
}

// wantFaults validates each payload by the schema. Its faults must contain the text beside it, or be none where that is empty.
func wantFaults(t *testing.T, source string, payloads map[string]string) {
	t.Helper()
	s := compile(t, source)
	for payload, want := range payloads {
		report, err := s.Validate(t.Context(), json.RawMessage(payload))
		if err != nil {
			t.Errorf("%s: %.40s: %v", source, payload, err)
			continue
		}
		if report.OK() != (want == "") || !strings.Contains(report.String(), want) {
			t.Errorf("%s: %.40s: got %q, want %q", source, payload, report.String(), want)
		}
	}
}
