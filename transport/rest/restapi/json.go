package restapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Decode reads one JSON value of a request's body into v, strictly: valid UTF-8, no lone surrogates, no unknown or
// repeated fields, and no data after the value. The error has KindInvalid and names the field. Raw values stay as
// written; the domain checks their nesting.
func Decode(body []byte, v any) error {
	if err := checkText(body); err != nil {
		return err
	}
	return decodeObject(body, v)
}

func decodeObject(body []byte, v any) error {
	if err := checkFields(body, fieldNamesOf(v)); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return explainError(err)
	}
	return nil
}

// Listed is an object that requests send in lists. ListName is the name of such a list in errors.
type Listed interface{ ListName() string }

// DecodeMany reads a JSON array of at most queue.MaxBatch objects. An error names its place, such as
// "tasks[3].payload".
func DecodeMany[T Listed](body []byte) ([]T, error) {
	if err := checkText(body); err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	if err := decodeObject(body, &raws); err != nil {
		return nil, err
	}
	return decodeEach[T](raws)
}

// DecodeLines is DecodeMany for NDJSON: one object per line, without the empty lines.
func DecodeLines[T Listed](body []byte) ([]T, error) {
	if err := checkText(body); err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			raws = append(raws, line)
			// One line too many is enough for the error.
			if len(raws) > queue.MaxBatch {
				break
			}
		}
	}
	return decodeEach[T](raws)
}

func decodeEach[T Listed](raws []json.RawMessage) ([]T, error) {
	var zero T
	name := zero.ListName()
	if len(raws) > queue.MaxBatch {
		return nil, queue.Invalid(name, fmt.Sprintf("must be at most %d at once, got %d", queue.MaxBatch, len(raws)))
	}
	out := make([]T, len(raws))
	for i, raw := range raws {
		if err := decodeObject(raw, &out[i]); err != nil {
			return nil, queue.At(fmt.Sprintf("%s[%d]", name, i), err)
		}
	}
	return out, nil
}

// checkText refuses text that encoding/json would silently replace.
func checkText(body []byte) error {
	if !utf8.Valid(body) {
		return queue.Invalid("body", "must be valid UTF-8; encode the body as UTF-8")
	}

	if queue.HasLoneSurrogate(body) {
		return queue.Invalid("body", `must have no lone surrogate escape; write \ud800-\udfff in pairs`)
	}
	return nil
}

// maxFields bounds the compared fields of an object. All objects of this package have fewer.
const maxFields = 64

// checkFields refuses an object with a repeated field, or with a field that is not in known (nil = any).
// encoding/json would silently take the last of two, and another reader the first. It descends only into headers,
// because the objects of requests contain no other objects. It does not report malformed JSON.
func checkFields(body []byte, known fieldNames) error {
	// The array keeps the names off the heap.
	var names [maxFields][]byte
	seen := names[:0]
	for key, rest := range objectKeys(body) {
		if err := checkField(key, rest, known, seen); err != nil {
			return err
		}
		if len(seen) < maxFields {
			seen = append(seen, key)
		}
	}
	return nil
}

// objectKeys yields the name of each field of the object body, and the text behind the name. It yields nothing for a
// list, and ends at malformed JSON, which the decoder reports.
func objectKeys(body []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, rest []byte) bool) {
		depth, isKey := 0, false
		for i := 0; i < len(body); i++ {
			switch body[i] {
			case '{', '[':
				depth++
				isKey = depth == 1 && body[i] == '{'
				if depth == 1 && !isKey {
					return
				}

			case '}', ']':
				if depth--; depth <= 0 {
					return
				}

			case ',':
				isKey = depth == 1
			case '"':
				// A text is skipped as a whole: it may contain brackets and commas.
				end := findTextEnd(body, i+1)
				if end < 0 || isKey && !yield(fieldName(body[i:end+1]), body[end+1:]) {
					return
				}
				i, isKey = end, false
			}
		}
	}
}

// checkField refuses a field that is not in known (nil = any), or that is in seen. rest is the text behind the name.
func checkField(key, rest []byte, known fieldNames, seen [][]byte) error {
	if known != nil && !known.has(key) {
		return queue.Invalid(Shorten(string(key)), "must be a field of this object, got an unknown field"+queue.SuggestName(string(key), known))
	}
	if slices.ContainsFunc(seen, func(k []byte) bool { return bytes.EqualFold(k, key) }) {
		return queue.Invalid(Shorten(string(key)), "must not be there twice; leave one out")
	}
	if bytes.EqualFold(key, headersField) {
		return checkHeadersOnce(rest)
	}
	return nil
}

// fieldNames are the names of the fields of an object.
type fieldNames []string

// knownFields holds the fields of each decoded type of object.
var knownFields sync.Map

// fieldNamesOf returns the fields of the struct that v points at, or nil if v points at another type.
func fieldNamesOf(v any) fieldNames {
	t := reflect.TypeOf(v).Elem()
	if t.Kind() != reflect.Struct {
		return nil
	}
	if known, ok := knownFields.Load(t); ok {
		return known.(fieldNames) //nolint:forcetypeassert // the map holds names alone
	}

	names := fieldNames{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && !f.Anonymous && name != "-" {
			names = append(names, cmp.Or(name, f.Name))
		}
	}
	knownFields.Store(t, names)
	return names
}

// has reports whether a field has this name, in any case, as encoding/json reads it.
func (names fieldNames) has(name []byte) bool {
	return slices.ContainsFunc(names, func(known string) bool {
		return known == string(name) || strings.EqualFold(known, string(name))
	})
}

// fieldName returns the name in quoted, without its quotes and escapes.
func fieldName(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var name string
	// The decoder of the whole body reports an error.
	_ = json.Unmarshal(quoted, &name)
	return []byte(name)
}

var headersField = []byte("headers")

// checkHeadersOnce refuses headers with a repeated name, also in escaped form. value begins after the name of the
// field.
func checkHeadersOnce(value []byte) error {
	value = bytes.TrimLeft(value, ": \t\r\n")
	if !bytes.HasPrefix(value, []byte("{")) {
		return nil
	}

	var names []string
	for key := range objectKeys(value) {
		name := string(key)
		if slices.Contains(names, name) {
			return queue.Invalid("headers", fmt.Sprintf("must have each name once, got %q twice; leave one out", Shorten(name)))
		}
		if len(names) <= queue.MaxHeaders {
			// The domain refuses more.
			names = append(names, name)
		}
	}
	return nil
}

// findTextEnd returns the position of the closing quote of the text that begins at i; below 0 without one.
func findTextEnd(body []byte, i int) int {
	for {
		quote := bytes.IndexByte(body[i:], '"')
		if quote < 0 {
			return -1
		}
		// A quote behind an odd number of backslashes is a part of the text.
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

// explainError returns the error of encoding/json with the wrong field.
func explainError(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := e.Field
		if field == "" {
			field = "body"
		}
		return queue.Invalid(field, fmt.Sprintf("must be %s, got %.64s", describeType(e.Type), e.Value))
	}
	// encoding/json has no types for these two.
	switch text := err.Error(); {
	case strings.HasSuffix(text, "after top-level value"):
		return queue.Invalid("body", "must be one JSON value, got more behind it; send one value")
	case strings.HasSuffix(text, "unexpected end of JSON input"):
		return queue.Invalid("body", "must be one complete JSON value, got its beginning; send all of it")
	}
	return queue.Invalid("body", "must be one JSON value, got "+Shorten(strings.TrimPrefix(err.Error(), "json: "))+"; correct it")
}

func describeType(t reflect.Type) string {
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

// NullDropper has raw values in which null may mean absent. It does in every request but those of MediaExactJSON.
type NullDropper interface{ DropNulls() }

func dropNullValue(raw *json.RawMessage) {
	if string(*raw) == "null" {
		*raw = nil
	}
}

// List is a page of a list. Count is the total number, or a lower bound with AtLeast.
type List[T any] struct {
	Count    int64  `json:"count" doc:"How many there are in all" example:"1"`
	AtLeast  bool   `json:"at_least,omitempty" doc:"There may be more than count: counting tasks by worker, times or text ends where it would take long" example:"true"`
	Examined int64  `json:"examined,omitempty" doc:"How many tasks a search for a text looked at to make this page; next goes on" example:"100000"`
	Body     []T    `json:"body" doc:"This page of them"`
	Next     string `json:"next,omitempty" doc:"The cursor of the next page; absent at the end, and only there" example:"MTIz"`
}

// Each converts a list. The result is never nil, because an empty list is [] on the wire.
func Each[In, Out any](in []In, convert func(In) Out) []Out {
	out := make([]Out, len(in))
	for i, v := range in {
		out[i] = convert(v)
	}
	return out
}

// ListOf returns a complete list.
func ListOf[T any](body []T) List[T] { return List[T]{Count: int64(len(body)), Body: body} }
