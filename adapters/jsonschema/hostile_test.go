package jsonschema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/jsonschema"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

// TestRefusedSchemas: a schema that could do harm is refused with its reason.
func TestRefusedSchemas(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	for _, c := range []struct{ name, source, want string }{
		{"a file", `{"$ref": "file:///etc/passwd"}`, `"file:///etc/passwd"`},
		{"a relative file", `{"$ref": "../other.json"}`, `"other.json"`},
		{"an absolute path", `{"$ref": "/etc/passwd"}`, `"etc/passwd"`},
		{"a server", `{"properties": {"a": {"$ref": "http://169.254.169.254/latest"}}}`, `"http://169.254.169.254/latest"`},
		{"a dynamic reference outward", `{"$dynamicRef": "https://example.com/a#b"}`, `"https://example.com/a"`},
		{"another $id", `{"$id": "https://example.com/a/b", "$ref": "c"}`, `"https://example.com/a/c"`},
		{"an older dialect", `{"$schema": "http://json-schema.org/draft-07/schema#"}`, "draft-07"},
		{"a meta-schema outward", `{"$schema": "https://example.com/meta"}`, "https://example.com/meta"},
		{"an older dialect within", `{"$defs": {"a": {"$id": "b", "$schema": "http://json-schema.org/draft-04/schema#"}}}`, "draft-04"},
		{"a missing part", `{"$ref": "#/$defs/a"}`, "must be a JSON Schema"},
		{"a missing anchor", `{"$ref": "#a"}`, "must be a JSON Schema"},
		{"a wrong keyword", `{"properties": {"a": {"type": "text"}}}`, "/properties/a/type"},
		{"a wrong number", `{"minLength": -1}`, "/minLength"},
		{"a wrong pattern", `{"pattern": "(?=a)b"}`, "RE2"},
		{"a wrong pattern of names", `{"patternProperties": {"(": {}}}`, "RE2"},
		{"a long pattern", `{"pattern": "` + strings.Repeat("a", jsonschema.MaxPatternBytes+1) + `"}`, "patterns of at most"},
		{"a pattern with many repeats", `{"pattern": "((a{100}){100}){100}"}`, "RE2"},
		{"a pattern with large repeats", `{"pattern": "(abcdefghij){1000}"}`, "fewer repeats"},
		{"many large patterns", `{"patternProperties": {` + strings.TrimSuffix(strings.ReplaceAll(patterns(2_000), "m]+", "m]{60}"), ",") + `}}`, "instructions together"},
		{"a number with a large exponent", `{"minimum": 1e1000001}`, "numbers of at most 400 digits"},
		{"a number with many digits", `{"const": ` + strings.Repeat("1", 401) + `}`, "numbers of at most 400 digits"},
		{"a circle", `{"$ref": "#"}`, "leads back to itself"},
		{"a circle of two", `{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}`, "leads back to itself"},
		{"a dynamic circle", `{"$dynamicAnchor": "a", "$dynamicRef": "#a"}`, "leads back to itself"},
		{"a long chain", chain(200, `{"$ref": "#/$defs/a%d"}`), "chains of at most"},
		{"many parts", `{"enum": [` + strings.Repeat("{},", 6_000) + `{}]}`, "at most 5000 objects"},
		{"long names above many parts", `{"$defs": {"` + strings.Repeat("a", 100_000) + `": {"anyOf": [` + strings.Repeat("{},", 4_000) + `{}]}}}`, "shorten its names"},
		{"256 KiB", `{"title": "` + strings.Repeat("a", 256<<10) + `"}`, "at most 262144 bytes"},
		{"1 MiB", `{"title": "` + strings.Repeat("a", 1<<20) + `"}`, "at most 262144 bytes"},
		{"deep nesting", strings.Repeat(`{"not":`, 200) + "{}" + strings.Repeat("}", 200), "nested at most"},
		{"an array", `[]`, "must be an object"},
		{"a text", `"a"`, "must be an object"},
		{"null", `null`, "must be an object"},
		{"no JSON", `{`, "must be one JSON value"},
		{"nothing", ``, "must be one JSON value"},
	} {
		start := time.Now()
		_, err := compiler.Compile(t.Context(), json.RawMessage(c.source))
		kind := queue.KindOf(err)
		if kind != queue.KindInvalid && kind != queue.KindTooLarge || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: got %v", c.name, err)
		}
		if err != nil && len(err.Error()) > 2_200 {
			t.Errorf("%s: a message of %d bytes", c.name, len(err.Error()))
		}
		if took := time.Since(start); took > jsonschema.MaxCompileTime {
			t.Errorf("%s: took %v", c.name, took)
		}
	}
}

// chain returns a schema of n parts, each of which has form with the number of the next one.
func chain(n int, form string) string {
	var b strings.Builder
	b.WriteString(`{"$ref": "#/$defs/a0", "$defs": {`)
	for i := range n {
		fmt.Fprintf(&b, `"a%d": `+form+`,`, append([]any{i}, repeated(i+1, strings.Count(form, "%d"))...)...)
	}
	fmt.Fprintf(&b, `"a%d": {"type": "string"}}}`, n)
	return b.String()
}

func repeated(v, n int) []any {
	values := make([]any, n)
	for i := range values {
		values[i] = v
	}
	return values
}

// hostileBytes is the size of hostile payloads: the ratios are those of 1 MiB, the default limit.
const hostileBytes = 256 << 10

// hostileCases are schemas and payloads that cost as much as they can.
var hostileCases = []struct{ name, source, payload string }{
	{"twice each by allOf", chain(18, `{"allOf": [{"$ref": "#/$defs/a%d"}, {"$ref": "#/$defs/a%d"}]}`), `"x"`},
	{"twice each by anyOf", chain(18, `{"anyOf": [{"$ref": "#/$defs/a%d"}, {"$ref": "#/$defs/a%d"}]}`), `1`},
	{"twice each by oneOf", chain(18, `{"oneOf": [{"$ref": "#/$defs/a%d"}, {"$ref": "#/$defs/a%d"}]}`), `1`},
	{"twice each by not", chain(18, `{"not": {"$ref": "#/$defs/a%d"}, "if": {"$ref": "#/$defs/a%d"}}`), `1`},
	{"items and contains", `{"not": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "contains": {"$ref": "#/$defs/a"}}}}`, strings.Repeat("[", 128) + strings.Repeat("]", 128)},
	{"unevaluated", `{"allOf": [` + strings.Repeat("{\"minProperties\":1},", 2_000) + `{}], "unevaluatedProperties": false}`, members(5_000)},
	{"unique numbers", `{"uniqueItems": true, "items": {"multipleOf": 3}}`, list(hostileBytes, func(i int) string { return fmt.Sprint(3 * i) })},
	{"unique numbers of 400 digits", `{"uniqueItems": true}`, list(hostileBytes, func(i int) string { return fmt.Sprint(i+1) + strings.Repeat("9", 390) })},
	{"unique exponents", `{"uniqueItems": true}`, list(hostileBytes, func(i int) string { return fmt.Sprint(i+1) + "e400" })},
	{"unique at each level", `{"$ref": "#/$defs/a", "$defs": {"a": {"uniqueItems": true, "items": {"$ref": "#/$defs/a"}}}}`, nested(127, 4_000)},
	{"unique by pairs", `{"uniqueItems": true}`, "[" + strings.TrimSuffix(strings.Repeat("["+strings.Repeat("1.5,", 10_000)+"1],", 20), ",") + "]"},
	{"faults of type", `{"items": {"type": "string"}}`, list(hostileBytes, func(int) string { return "1" })},
	{"faults of false", `{"items": false}`, list(hostileBytes, func(int) string { return "1" })},
	{"faults of minimum", `{"items": {"minimum": 5}}`, list(hostileBytes, func(int) string { return "1" })},
	{"many alternatives", `{"items": {"anyOf": [` + strings.Repeat(`{"type": "string"},`, 4_000) + `{"type": "null"}]}}`, list(hostileBytes, func(int) string { return "1" })},
	{"a long enum", `{"items": {"enum": [` + strings.TrimSuffix(strings.Repeat("1.5,", 50_000), ",") + `]}}`, list(hostileBytes, func(int) string { return "1" })},
	{"a long enum of texts", `{"items": {"enum": [` + strings.TrimSuffix(strings.Repeat(`"ab",`, 40_000), ",") + `]}}`, list(hostileBytes, func(int) string { return `"a"` })},
	{"a large const", `{"items": {"const": [` + strings.Repeat("1,", 60_000) + `1]}}`, "[" + strings.TrimSuffix(strings.Repeat("["+strings.Repeat("1,", 60_000)+"1],", 8), ",") + "]"},
	{"many patterns", `{"patternProperties": {` + strings.TrimSuffix(patterns(1_000), ",") + `}}`, members(5_000)},
	{"a costly pattern", `{"pattern": "^(a?){150}a{150}$"}`, `"` + strings.Repeat("a", hostileBytes-2) + `"`},
	{"a pattern that finds nothing", `{"pattern": "(x+x+)+y"}`, `"` + strings.Repeat("x", hostileBytes-2) + `"`},
	{"a pattern of many branches", `{"pattern": "(.*)(.*)(.*)(.*)(.*)[xyz]{900}b"}`, `"` + strings.Repeat("x", hostileBytes-2) + `"`},
	{"long text, many lengths", `{"allOf": [` + strings.Repeat(`{"maxLength": 2000000},`, 4_000) + `{}]}`, `"` + strings.Repeat("a", hostileBytes-2) + `"`},
	{"long required", `{"items": {"required": ` + list(200_000, func(i int) string { return fmt.Sprintf("%q", fmt.Sprint(i)) }) + `}}`, list(hostileBytes, func(int) string { return "{}" })},
	{"names", `{"propertyNames": {"pattern": "^[a-z0-9]{1,64}$", "anyOf": [{"maxLength": 3}, {"minLength": 1}]}}`, members(15_000)},
	{"recursion into depth", `{"$ref": "#/$defs/a0", "$defs": {` + deepChain(36) + `}}`, strings.Repeat("[", 128) + strings.Repeat("]", 128)},
	{"multiples of long numbers", `{"items": {"multipleOf": 0.` + strings.Repeat("0", 390) + `7}}`, list(hostileBytes, func(i int) string { return fmt.Sprint(i) + "e-390" })},
	{"dynamic references", `{"$dynamicAnchor": "a", "items": {"$dynamicRef": "#a"}, "contains": {"$dynamicRef": "#a"}}`, strings.Repeat("[", 60) + "1" + strings.Repeat(",1]", 60)},
}

// deepChain returns parts that lead from one to the next, and by items back to the first.
func deepChain(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"a%d": {"$ref": "#/$defs/a%d"},`, i, i+1)
	}
	fmt.Fprintf(&b, `"a%d": {"items": {"$ref": "#/$defs/a0"}}`, n)
	return b.String()
}

// list returns an array of up to n bytes.
func list(n int, item func(i int) string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := 0; ; i++ {
		next := item(i)
		if b.Len()+len(next)+2 > n {
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(next)
	}
	b.WriteByte(']')
	return b.String()
}

// members returns an object of n members.
func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

// nested returns arrays of two, a number of levels deep, with n numbers in the innermost.
func nested(levels, n int) string {
	return strings.Repeat("[1,", levels) + "[" + strings.TrimSuffix(strings.Repeat("1.5,", n), ",") + "]" + strings.Repeat("]", levels)
}

// patterns returns n members of patternProperties.
func patterns(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"^[a-m]+%d$": true,`, i)
	}
	return b.String()
}

// TestHostileWork: a schema and a payload that cost as much as they can are checked or refused in bounded time, without a panic.
func TestHostileWork(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	for _, c := range hostileCases {
		s, err := compiler.Compile(t.Context(), json.RawMessage(c.source))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}

		decoding := timeDecode(t, c.payload)
		took := time.Hour
		var report schema.Report
		for range 2 {
			start := time.Now()
			report, err = s.Validate(t.Context(), json.RawMessage(c.payload))
			took = min(took, time.Since(start))
		}
		t.Logf("%-32s %8v, decoding %8v, ratio %4.1f, ok %v %.60v", c.name, took.Round(10*time.Microsecond), decoding.Round(10*time.Microsecond), float64(took)/float64(decoding), report.OK(), err)

		if err != nil && queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%s: %v", c.name, err)
		}
		// The factor over the 10, and the time, are for machines that are busy.
		if limit := 30*decoding + 100*time.Millisecond; took > limit {
			t.Errorf("%s: took %v, its decoding %v", c.name, took, decoding)
		}
	}
}

// timeDecode returns the shortest of some times of decoding with exact numbers.
func timeDecode(t *testing.T, payload string) time.Duration {
	t.Helper()
	shortest := time.Hour
	for range 3 {
		start := time.Now()
		decoder := json.NewDecoder(strings.NewReader(payload))
		decoder.UseNumber()
		var v any
		if err := decoder.Decode(&v); err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(start))
	}
	return shortest
}

// TestHostileNumbers: numbers that make the library panic or take long are refused before it sees them.
func TestHostileNumbers(t *testing.T) {
	s, err := jsonschema.NewCompiler().Compile(t.Context(), json.RawMessage(`{"properties": {"n": {"minimum": 1, "multipleOf": 0.5}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"1e1000001", "1e999999", "-1e401", "1e-401", "1E+00401", strings.Repeat("1", 401), "0." + strings.Repeat("1", 400), "1e99999999999999999999"} {
		start := time.Now()
		_, err := s.Validate(t.Context(), json.RawMessage(`{"n": [`+number+`]}`))
		if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), "400 digits") || len(err.Error()) > 300 {
			t.Errorf("%.20s: got %v", number, err)
		}
		if took := time.Since(start); took > 20*time.Millisecond {
			t.Errorf("%.20s: took %v", number, took)
		}
	}
	for _, number := range []string{"1e400", "2E-0400", strings.Repeat("1", 400), "\"1e1000001\"", "1.5"} {
		if _, err := s.Validate(t.Context(), json.RawMessage(`{"n": `+number+`}`)); err != nil {
			t.Errorf("%.20s: got %v", number, err)
		}
	}
}

// FuzzValidate: any schema and any payload give a result.
func FuzzValidate(f *testing.F) {
	for _, c := range hostileCases {
		if len(c.source)+len(c.payload) < 5_000 {
			f.Add(c.source, c.payload)
		}
	}
	f.Add(`{"type": "object", "properties": {"a": {"enum": [1, "b"]}}, "required": ["a"]}`, `{"a": 1}`)
	f.Add(`{"$dynamicAnchor": "a", "properties": {"b": {"$dynamicRef": "#a"}}, "unevaluatedProperties": false}`, `{"b": {"c": 1}}`)
	compiler := jsonschema.NewCompiler()
	f.Fuzz(func(t *testing.T, source, payload string) {
		s, err := compiler.Compile(t.Context(), json.RawMessage(source))
		if err != nil {
			if kind := queue.KindOf(err); kind == queue.KindInternal || len(err.Error()) > 3_000 {
				t.Fatalf("%q: %v", source, err)
			}
			return
		}
		if queue.CheckJSON("payload", []byte(payload), 1<<20) != nil {
			return
		}
		one, err := s.Validate(t.Context(), json.RawMessage(payload))
		two, again := s.Validate(t.Context(), json.RawMessage(payload))
		if one.OK() != two.OK() || queue.KindOf(err) != queue.KindOf(again) || len(one.Faults) > 20 {
			t.Fatalf("%q, %q: got %v, %v, and then %v, %v", source, payload, one, err, two, again)
		}
		if err != nil && strings.Contains(err.Error(), "got a fault of the check") {
			t.Fatalf("%q, %q: the library panics", source, payload)
		}
	})
}

// BenchmarkValidate compares the validation with the decoding of the same bytes.
func BenchmarkValidate(b *testing.B) {
	const source = `{"type": "object", "required": ["to", "n"], "additionalProperties": false, "properties": {
		"to": {"type": "string", "pattern": "^[^@]+@[^@]+$", "maxLength": 255},
		"n": {"type": "integer", "minimum": 0}, "kind": {"enum": ["a", "b", "c"]},
		"tags": {"type": "array", "maxItems": 10, "uniqueItems": true, "items": {"type": "string"}}}}`
	const payload = `{"to": "ann@example.com", "n": 17, "kind": "b", "tags": ["x", "y", "z"]}`
	s, err := jsonschema.NewCompiler().Compile(b.Context(), json.RawMessage(source))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("validate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if report, err := s.Validate(b.Context(), json.RawMessage(payload)); err != nil || !report.OK() {
				b.Fatal(report, err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var v any
			if err := json.Unmarshal([]byte(payload), &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		compiler := jsonschema.NewCompiler()
		for b.Loop() {
			if _, err := compiler.Compile(b.Context(), json.RawMessage(source)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
