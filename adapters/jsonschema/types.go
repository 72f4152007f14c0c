package jsonschema

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// typeSet is a set of types, one bit each.
type typeSet int

const (
	typeNull typeSet = 1 << iota
	typeBoolean
	typeNumber
	typeInteger
	typeString
	typeArray
	typeObject
)

var typeBits = map[string]typeSet{
	"null": typeNull, "boolean": typeBoolean, "number": typeNumber, "integer": typeInteger, "string": typeString, "array": typeArray, "object": typeObject,
}

// typesOf returns the set of the types with names.
func typesOf(names []string) (t typeSet) {
	for _, name := range names {
		t |= typeBits[name]
	}
	return t
}

// has reports whether v has one of the types.
func (t typeSet) has(v any) bool {
	if n, ok := v.(json.Number); ok {
		return t&typeNumber != 0 || t&typeInteger != 0 && isInteger(n)
	}
	return t&typeBits[nameType(v)] != 0
}

// nameType returns the name of the type of v.
func nameType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "number"
}

// typeFault is the fault of a value of another type.
type typeFault struct {
	got  string
	want []string
}

func (f *typeFault) Error() string {
	want := slices.Clone(f.want)
	last := len(want) - 1
	if last > 0 {
		want[last-1] += " or " + want[last]
		want = want[:last]
	}
	return "must be " + strings.Join(want, ", ") + ", got " + f.got
}

// errConstant is the fault of a value that const or enum lacks.
var errConstant = errors.New("must be one of the listed values")
