package restapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Append appends v to b as JSON. It follows encoding/json and the tags of the fields, with three differences: raw
// values stay byte by byte, where encoding/json rewrites their white space; times are in UTC; and escapes that only
// HTML needs are omitted.
func Append(b []byte, v any) ([]byte, error) {
	if v == nil {
		return append(b, "null"...), nil
	}
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Struct {
		// An addressable struct gives access to its fields by address, without a copy of each.
		addressable := reflect.New(value.Type()).Elem()
		addressable.Set(value)
		value = addressable
	}
	return encoderOf(value.Type())(b, value)
}

// encoder appends a value of one type.
type encoder func(b []byte, v reflect.Value) ([]byte, error)

// encoders holds the encoder of each written type. Its size is bounded by the types of the program.
var encoders sync.Map

func encoderOf(t reflect.Type) encoder {
	if known, ok := encoders.Load(t); ok {
		return known.(encoder) //nolint:forcetypeassert // the map holds encoders alone
	}
	e := newEncoder(t)
	encoders.Store(t, e)
	return e
}

var (
	rawType       = reflect.TypeFor[json.RawMessage]()
	timeType      = reflect.TypeFor[time.Time]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
)

func newEncoder(t reflect.Type) encoder {
	switch {
	case t == rawType:
		return appendRaw
	case t == timeType:
		return appendTime
	// Before the kinds: a type with a method of its own may be of any kind.
	case t.Implements(marshalerType):
		return appendMarshaler
	}

	switch t.Kind() {
	case reflect.Bool:
		return func(b []byte, v reflect.Value) ([]byte, error) { return strconv.AppendBool(b, v.Bool()), nil }
	case reflect.Int, reflect.Int16, reflect.Int64:
		return func(b []byte, v reflect.Value) ([]byte, error) { return strconv.AppendInt(b, v.Int(), 10), nil }
	case reflect.String:
		return func(b []byte, v reflect.Value) ([]byte, error) { return appendString(b, v.String()) }
	case reflect.Pointer, reflect.Interface:
		return appendElement
	case reflect.Slice:
		// encoding/json writes bytes as base64, and appendOther does so too.
		if t.Elem().Kind() != reflect.Uint8 {
			return appendSlice
		}

	case reflect.Struct:
		if fields, ok := encodedFields(t); ok {
			return fields.appendStruct
		}

	// appendOther covers maps, floats, and kinds that the bodies of this package do not use.
	default:
	}

	return appendOther
}

func appendRaw(b []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	return append(b, v.Bytes()...), nil
}

func appendTime(b []byte, v reflect.Value) ([]byte, error) {
	b = timeOf(v).UTC().AppendFormat(append(b, '"'), time.RFC3339Nano)
	return append(b, '"'), nil
}

func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() {
		t, _ := reflect.TypeAssert[*time.Time](v.Addr())
		return *t
	}
	t, _ := reflect.TypeAssert[time.Time](v)
	return t
}

func appendMarshaler(b []byte, v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return append(b, "null"...), nil
	}
	m, _ := reflect.TypeAssert[json.Marshaler](v)
	text, err := m.MarshalJSON()
	return append(b, text...), err
}

func appendElement(b []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	return encoderOf(v.Elem().Type())(b, v.Elem())
}

func appendSlice(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	// One look-up serves all elements.
	encode := encoderOf(v.Type().Elem())
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = encode(b, v.Index(i)); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// appendOther appends maps, floats, and kinds that the bodies of this package do not use.
func appendOther(b []byte, v reflect.Value) ([]byte, error) {
	return appendStandard(b, v.Interface())
}

func appendStandard(b []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return b, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func appendString(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		// Everything else needs an escape, or may be invalid UTF-8.
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendStandard(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"'), nil
}

// structFields are the fields of a struct that appear in JSON.
type structFields []structField

type structField struct {
	index     int
	key       string // as `"name":`
	omitEmpty bool
	omitZero  bool
	encode    encoder
}

// encodedFields returns the fields of t, unless t embeds structs or has tags that this package does not use.
func encodedFields(t reflect.Type) (structFields, bool) {
	var fields structFields
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		// encoding/json has rules for these that are not worth a second implementation.
		case f.Anonymous, options != "" && options != "omitempty" && options != "omitzero":
			return nil, false
		case !f.IsExported(), name == "-":
			continue
		case name == "":
			name = f.Name
		}

		fields = append(fields, structField{
			index: i, key: strconv.Quote(name) + ":", omitEmpty: options == "omitempty", omitZero: options == "omitzero",
			encode: encoderOf(f.Type),
		})
	}

	return fields, true
}

func (fields structFields) appendStruct(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '{')
	for i := range fields {
		f := &fields[i]
		field := v.Field(f.index)
		if f.omitEmpty && isEmpty(field) || f.omitZero && isZero(field) {
			continue
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		if b, err = f.encode(append(b, f.key...), field); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

func isZero(v reflect.Value) bool {
	if v.Type() == timeType {
		return timeOf(v).IsZero()
	}
	return v.IsZero()
}
