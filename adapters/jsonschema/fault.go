package jsonschema

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

const (
	maxPointer = 256
	maxRule    = 256
	// maxFaultsSorted bounds the faults that are sorted before the first of them are shown.
	maxFaultsSorted = 10_000
)

// listFaults returns the report of a refused value.
func listFaults(found *jsonschema.ValidationError) schema.Report {
	var faults []schema.Fault
	more := !collectFaults(found, &faults)
	slices.SortFunc(faults, func(a, b schema.Fault) int {
		return cmp.Or(strings.Compare(a.Pointer, b.Pointer), strings.Compare(a.Keyword, b.Keyword), strings.Compare(a.Msg, b.Msg))
	})
	faults = slices.Compact(faults)

	r := schema.Report{Faults: faults, More: more || len(faults) > schema.MaxFaults}
	r.Faults = slices.Clip(r.Faults[:min(len(faults), schema.MaxFaults)])
	if r.OK() {
		r.More = true
	}
	return r
}

// collectFaults adds the faults of found, and returns false when there are too many.
func collectFaults(found *jsonschema.ValidationError, faults *[]schema.Fault) bool {
	if len(*faults) >= maxFaultsSorted {
		return false
	}

	if keyword, rule := describeKind(found.ErrorKind); rule != "" {
		*faults = append(*faults, schema.Fault{Pointer: pointerTo(found.InstanceLocation), Keyword: keyword, Msg: shorten(rule, maxRule)})
	}
	for _, cause := range found.Causes {
		if !collectFaults(cause, faults) {
			return false
		}
	}
	return true
}

// pointerTo returns the JSON pointer of a location.
func pointerTo(location []string) string {
	var b strings.Builder
	for _, token := range location {
		if b.Len() > maxPointer {
			break
		}
		b.WriteByte('/')
		b.WriteString(escapeToken(shorten(token, maxPointer)))
	}
	return shorten(b.String(), maxPointer)
}

// english formats the texts of rules without one of our own.
var english = message.NewPrinter(language.English)

// describeKind returns the keyword and the rule of a fault; "" for one that only has causes.
func describeKind(k jsonschema.ErrorKind) (keyword, rule string) {
	if k == nil {
		return "", ""
	}
	if path := k.KeywordPath(); len(path) > 0 {
		keyword = path[len(path)-1]
	}

	switch k := k.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf:
		return "", ""
	case *kind.Format:
		return describeFormat(k.Err)
	case *kind.Enum, *kind.Const:
		return "enum", errConstant.Error()
	case *kind.FalseSchema:
		return "false", "must be absent"
	case *kind.Required, *kind.DependentRequired, *kind.AdditionalProperties, *kind.PropertyNames:
		return keyword, describeFields(k)
	case *kind.Pattern:
		return keyword, fmt.Sprintf("must match %.128q", k.Want)
	case *kind.Not:
		return keyword, "must not match the schema of not"
	case *kind.AnyOf:
		return keyword, "must match one of the schemas of anyOf"
	case *kind.OneOf:
		return keyword, "must match exactly one of the schemas of oneOf"
	case *kind.Contains:
		return keyword, "must contain an item that matches"
	case *kind.UniqueItems:
		return keyword, fmt.Sprintf("must have unique items, got equal ones at %d and %d", k.Duplicates[0], k.Duplicates[1])
	}
	return describeBound(k, keyword)
}

// describeFormat returns the keyword and the rule of a fault of one of our formats. The package checks types, bounds, constants
// and patterns as formats, so that the error carries the keyword that the schema has.
func describeFormat(err error) (keyword, rule string) {
	if fault, ok := errors.AsType[*typeFault](err); ok {
		return "type", fault.Error()
	}
	if fault, ok := errors.AsType[*boundFault](err); ok {
		return fault.bound.keyword, fault.Error()
	}
	if errors.Is(err, errConstant) {
		return "enum", errConstant.Error()
	}
	if ours, ok := errors.AsType[*queue.Error](err); ok { // of a pattern
		return "pattern", ours.Msg
	}
	if inner, ok := errors.AsType[*jsonschema.ValidationError](err); ok && len(inner.Causes) > 0 {
		return describeKind(inner.Causes[0].ErrorKind)
	}
	return "format", "must have another form"
}

// describeFields returns the rule of a fault of the fields that an object has or lacks.
func describeFields(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Required:
		return "must have the fields " + quoteNames(k.Missing)
	case *kind.DependentRequired:
		return fmt.Sprintf("must have the fields %s beside %.64q", quoteNames(k.Missing), k.Prop)
	case *kind.AdditionalProperties:
		// The library lists them in the order of a map, and a report must be the same each time.
		return "must not have the fields " + quoteNames(slices.Sorted(slices.Values(k.Properties)))
	case *kind.PropertyNames:
		return fmt.Sprintf("must not have the name %.64q", k.Property)
	}
	return ""
}

// describeBound describes the faults of sizes and numbers.
func describeBound(k jsonschema.ErrorKind, keyword string) (string, string) {
	switch k := k.(type) {
	case *kind.MinLength:
		return keyword, fmt.Sprintf("must have at least %d characters, got %d", k.Want, k.Got)
	case *kind.MaxLength:
		return keyword, fmt.Sprintf("must have at most %d characters, got %d", k.Want, k.Got)
	case *kind.MinItems:
		return keyword, fmt.Sprintf("must have at least %d items, got %d", k.Want, k.Got)
	case *kind.MaxItems:
		return keyword, fmt.Sprintf("must have at most %d items, got %d", k.Want, k.Got)
	case *kind.MinContains:
		return keyword, fmt.Sprintf("must contain at least %d items that match, got %d", k.Want, len(k.Got))
	case *kind.MaxContains:
		return keyword, fmt.Sprintf("must contain at most %d items that match, got %d", k.Want, len(k.Got))
	case *kind.MinProperties:
		return keyword, fmt.Sprintf("must have at least %d fields, got %d", k.Want, k.Got)
	case *kind.MaxProperties:
		return keyword, fmt.Sprintf("must have at most %d fields, got %d", k.Want, k.Got)
	}
	return keyword, k.LocalizedString(english)
}

// formatNumber formats a number of a schema.
func formatNumber(n *big.Rat) string {
	if n.IsInt() {
		return shorten(n.Num().String(), 64)
	}
	f, _ := n.Float64()
	return fmt.Sprint(f)
}

// maxNames bounds the names that a rule shows.
const maxNames = 5

// quoteNames lists names of fields.
func quoteNames(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i == maxNames {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.64q", name)
	}
	return b.String()
}
