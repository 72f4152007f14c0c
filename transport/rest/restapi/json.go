package restapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Decode reads one JSON value of a request's body into v, strictly: valid UTF-8, no lone surrogates, no unknown fields,
// none twice, nothing behind the value. The error is of KindInvalid and names the field. Raw values stay as they were written; their
// nesting is checked by the domain.
func Decode(body []byte, v any) error {
	if err := checkText(body); err != nil {
		return err
	}
	return decode(body, v)
}

func decode(body []byte, v any) error {
	if err := checkFieldsOnce(body); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fault(err)
	}
	if len(bytes.TrimSpace(body[dec.InputOffset():])) > 0 {
		return queue.Invalid("body", "there is more behind the JSON value")
	}
	return nil
}

// DecodeMany reads a JSON array of at most queue.MaxBatch objects; an error is put at its place, as "tasks[3].payload".
func DecodeMany[T any](body []byte, name string) ([]T, error) {
	if err := checkText(body); err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	if err := decode(body, &raws); err != nil {
		return nil, err
	}
	return decodeEach[T](raws, name)
}

// DecodeLines is DecodeMany for NDJSON: an object a line, empty lines skipped.
func DecodeLines[T any](body []byte, name string) ([]T, error) {
	if err := checkText(body); err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			raws = append(raws, line)
			if len(raws) > queue.MaxBatch {
				break
			}
		}
	}
	return decodeEach[T](raws, name)
}

func decodeEach[T any](raws []json.RawMessage, name string) ([]T, error) {
	if len(raws) > queue.MaxBatch {
		return nil, queue.Invalid(name, fmt.Sprintf("at most %d at once", queue.MaxBatch))
	}
	out := make([]T, len(raws))
	for i, raw := range raws {
		if err := decode(raw, &out[i]); err != nil {
			return nil, queue.At(fmt.Sprintf("%s[%d]", name, i), err)
		}
	}
	return out, nil
}

// checkText refuses what encoding/json would silently replace.
func checkText(body []byte) error {
	if !utf8.Valid(body) {
		return queue.Invalid("body", "must be valid UTF-8")
	}
	if !bytes.Contains(body, []byte(`\u`)) {
		return nil
	}
	high := false // the escape before this byte was a high surrogate
	for i := 0; i < len(body); i++ {
		r := -1
		if body[i] == '\\' {
			if i+5 < len(body) && body[i+1] == 'u' {
				if n, err := strconv.ParseUint(string(body[i+2:i+6]), 16, 16); err == nil {
					r = int(n)
				}
				i += 5
			} else {
				i++
			}
		}
		if low := r >= 0xDC00 && r < 0xE000; low != high {
			return queue.Invalid("body", `has a lone surrogate escape; \ud800-\udfff must come in pairs`)
		}
		high = r >= 0xD800 && r < 0xDC00
	}
	return nil
}

// maxFields is how many fields of an object are compared; no object of ours has as many.
const maxFields = 64

// checkFieldsOnce refuses an object that has a field twice, or a header: encoding/json would take the last in silence, and
// another reader the first. It does not look inside of other fields, as payloads. It says nothing of what is no JSON.
func checkFieldsOnce(body []byte) error {
	var seen [maxFields][]byte
	n, depth, isKey := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '{', '[':
			depth++
			isKey = depth == 1 && body[i] == '{'
			if depth == 1 && !isKey {
				return nil // a list has no fields
			}
		case '}', ']':
			if depth--; depth <= 0 {
				return nil
			}
		case ',':
			isKey = depth == 1
		case '"':
			end := textEnd(body, i+1)
			if end < 0 {
				return nil
			}
			key, wasKey := body[i+1:end], isKey
			i, isKey = end, false
			if !wasKey {
				continue
			}
			if slices.ContainsFunc(seen[:n], func(k []byte) bool { return bytes.EqualFold(k, key) }) {
				return queue.Invalid(clip(string(key)), "must not be there twice")
			}
			if n < maxFields {
				seen[n], n = key, n+1
			}
			if bytes.EqualFold(key, headersField) {
				if err := checkHeadersOnce(body[end+1:]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

var headersField = []byte("headers")

// checkHeadersOnce refuses headers that have a name twice, however it is escaped. value begins behind the field's name.
func checkHeadersOnce(value []byte) error {
	value = bytes.TrimLeft(value, ": \t\r\n")
	if !bytes.HasPrefix(value, []byte("{")) {
		return nil
	}

	var names []string
	for i, isName := 1, true; i < len(value); i++ {
		switch value[i] {
		case '{', '[', '}': // an object in a value is refused elsewhere
			return nil
		case ',':
			isName = true
		case '"':
			end := textEnd(value, i+1)
			if end < 0 {
				return nil
			}
			text := value[i : end+1]
			i = end
			if !isName {
				continue
			}
			isName = false

			var name string
			_ = json.Unmarshal(text, &name) // an error is reported when the whole is decoded
			if slices.Contains(names, name) {
				return queue.Invalid("headers", fmt.Sprintf("must have each name once, got %q twice; leave one out", clip(name)))
			}
			if len(names) <= queue.MaxHeaders { // more are refused elsewhere
				names = append(names, name)
			}
		}
	}
	return nil
}

// textEnd is where the text that begins at i has its closing quote; below 0 when it has none.
func textEnd(body []byte, i int) int {
	for {
		quote := bytes.IndexByte(body[i:], '"')
		if quote < 0 {
			return -1
		}
		escapes := 0
		for escapes < quote && body[i+quote-1-escapes] == '\\' {
			escapes++
		}
		i += quote
		if escapes%2 == 0 {
			return i
		}
		i++
	}
}

// fault says what encoding/json found, with the field at fault.
func fault(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := e.Field
		if field == "" {
			field = "body"
		}
		return queue.Invalid(field, fmt.Sprintf("%s is needed, this is %s", wanted(e.Type), clip(e.Value)))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if s, uerr := strconv.Unquote(name); uerr == nil {
			name = s
		}
		return queue.Invalid(clip(name), "unknown field")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return queue.Invalid("body", "a complete JSON value is needed")
	}
	return queue.Invalid("body", "must be one JSON value: "+strings.TrimPrefix(err.Error(), "json: "))
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int16:
		return fmt.Sprintf("an integer from %d to %d", math.MinInt16, math.MaxInt16)
	case reflect.Int, reflect.Int64:
		return "an integer"
	case reflect.Slice, reflect.Array:
		return "a list"
	default:
		return "an object"
	}
}

// NullDropper has raw values in which null may mean absent. In a request it does, unless the request is of
// MediaExactJSON.
type NullDropper interface{ DropNulls() }

func dropNull(raw *json.RawMessage) {
	if string(*raw) == "null" {
		*raw = nil
	}
}

// Appender writes itself as JSON, raw values byte by byte. (encoding/json rewrites the white space of raw values.)
type Appender interface {
	AppendJSON(b []byte) []byte
}

// Append writes v as JSON behind b, without the escapes that only HTML needs.
func Append(b []byte, v any) ([]byte, error) {
	if a, ok := v.(Appender); ok {
		return a.AppendJSON(b), nil
	}
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return b, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// List is a page of a list. Count is how many there are in all, with AtLeast at least how many.
type List[T any] struct {
	Count   int64  `json:"count" doc:"How many there are in all" example:"1"`
	AtLeast bool   `json:"at_least,omitempty" doc:"There may be more than count: counting tasks by worker or times ends where it would take long" example:"true"`
	Body    []T    `json:"body" doc:"This page of them"`
	Next    string `json:"next,omitempty" doc:"The cursor of the next page; absent at the end, and only there" example:"MTIz"`
}

// ListOf is a list that is complete.
func ListOf[T any](body []T) List[T] { return List[T]{Count: int64(len(body)), Body: body} }

// AppendJSON writes the list; its values by AppendJSON where they have it.
func (l List[T]) AppendJSON(b []byte) []byte {
	o := open(b)
	o.int("count", l.Count)
	o.flag("at_least", l.AtLeast)
	o.key("body")
	o.b = append(o.b, '[')
	for i := range l.Body {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = must(Append(o.b, l.Body[i]))
	}
	o.b = append(o.b, ']')
	o.str("next", l.Next)
	return o.close()
}

// must is for values of this package, which always marshal.
func must(b []byte, err error) []byte {
	if err != nil {
		panic("restapi: " + err.Error())
	}
	return b
}

// object writes one JSON object, field by field; what is empty is left out, but for numbers and flags.
type object struct{ b []byte }

func open(b []byte) *object { return &object{append(b, '{')} }

func (o *object) close() []byte { return append(o.b, '}') }

func (o *object) key(k string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, k...)
	o.b = append(o.b, '"', ':')
}

func (o *object) str(k, v string) {
	if v != "" {
		o.key(k)
		o.b = appendString(o.b, v)
	}
}

func (o *object) int(k string, v int64) {
	o.key(k)
	o.b = strconv.AppendInt(o.b, v, 10)
}

// flag writes v when it is true.
func (o *object) flag(k string, v bool) {
	if v {
		o.key(k)
		o.b = append(o.b, "true"...)
	}
}

func (o *object) raw(k string, v json.RawMessage) {
	if len(v) > 0 {
		o.key(k)
		o.b = append(o.b, v...)
	}
}

func (o *object) time(k string, v time.Time) {
	if !v.IsZero() {
		o.key(k)
		o.b = append(o.b, '"')
		o.b = v.UTC().AppendFormat(o.b, time.RFC3339Nano)
		o.b = append(o.b, '"')
	}
}

// value writes anything.
func (o *object) value(k string, v any) {
	o.key(k)
	o.b = must(Append(o.b, v))
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return must(Append(b, s))
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
