package jsonschema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// program is one copy of a compiled schema, for one validation at a time.
type program struct {
	// check refuses every payload that the schema takes: in the scope of a not the library collects no faults.
	check *jsonschema.Schema
	// list collects the faults.
	list  *jsonschema.Schema
	meter meter
	// tracks: a part has unevaluatedProperties or unevaluatedItems, so the library notes the members of every value.
	tracks bool
	// parts and instructions count what takes memory.
	parts        int
	instructions int
}

// instrument gives each part of the schema that can be reached from roots its step, and checks the length of chains.
func (p *program) instrument(roots []*jsonschema.Schema) error {
	seen := map[*jsonschema.Schema]bool{}
	todo := slices.Clone(roots)
	anchored := map[string][]*jsonschema.Schema{}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[s] {
			continue
		}
		seen[s] = true
		p.tracks = p.tracks || s.UnevaluatedItems != nil || s.UnevaluatedProperties != nil
		if s.DynamicAnchor != "" {
			anchored[s.DynamicAnchor] = append(anchored[s.DynamicAnchor], s)
		}
		todo = append(append(todo, besides(s)...), below(s)...)
	}

	chains := chainFinder{anchored: anchored, lengths: map[*jsonschema.Schema]int{}}
	for s := range seen {
		if n := chains.measure(s); n > MaxChain {
			return queue.Invalid("schema", fmt.Sprintf("must have chains of at most %d parts for one value, got %d", MaxChain, n))
		}
	}
	if chains.circle {
		return queue.Invalid("schema", "must not have a reference that leads back to itself at the same value; put properties or items between")
	}

	for s := range seen {
		// A boolean part does no work that would need a step.
		if s.Bool == nil {
			p.addGuard(s)
		}
	}
	p.parts = len(seen)
	return nil
}

// chainFinder measures chains of parts for one value.
type chainFinder struct {
	anchored map[string][]*jsonschema.Schema
	// lengths of the chains that begin at a part; -1 while it is measured.
	lengths map[*jsonschema.Schema]int
	circle  bool
}

// measure returns the length of the longest chain that begins at s. It stops beyond MaxChain, which bounds its own depth too.
func (c *chainFinder) measure(s *jsonschema.Schema) int { return c.measureAt(s, 0) }

func (c *chainFinder) measureAt(s *jsonschema.Schema, depth int) int {
	switch n := c.lengths[s]; {
	// Met again while it is measured: the chain leads back to itself.
	case n < 0:
		c.circle = true
		return 0
	case n > 0:
		return n
	case depth > MaxChain:
		return 1
	}

	c.lengths[s] = -1
	longest := 0
	next := besides(s)
	if s.DynamicRef != nil && s.DynamicRef.Anchor != "" {
		next = append(next, c.anchored[s.DynamicRef.Anchor]...)
	}
	for _, other := range next {
		longest = max(longest, c.measureAt(other, depth+1))
	}
	c.lengths[s] = 1 + longest
	return 1 + longest
}

// besides returns the parts that look at the same value as s.
func besides(s *jsonschema.Schema) []*jsonschema.Schema {
	parts := slices.Concat(s.AllOf, s.AnyOf, s.OneOf)
	parts = append(parts, s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else)
	if s.DynamicRef != nil {
		parts = append(parts, s.DynamicRef.Ref)
	}
	parts = slices.AppendSeq(parts, maps.Values(s.DependentSchemas))
	for _, dependency := range s.Dependencies {
		if part, ok := dependency.(*jsonschema.Schema); ok {
			parts = append(parts, part)
		}
	}
	return slices.DeleteFunc(parts, func(s *jsonschema.Schema) bool { return s == nil })
}

// below returns the parts that look at values within that of s.
func below(s *jsonschema.Schema) []*jsonschema.Schema {
	parts := slices.Concat(s.PrefixItems, []*jsonschema.Schema{
		s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema,
	})
	parts = slices.AppendSeq(parts, maps.Values(s.Properties))
	parts = slices.AppendSeq(parts, maps.Values(s.PatternProperties))
	for _, other := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems} {
		switch other := other.(type) {
		case *jsonschema.Schema:
			parts = append(parts, other)
		case []*jsonschema.Schema:
			parts = append(parts, other...)
		}
	}
	return slices.DeleteFunc(parts, func(s *jsonschema.Schema) bool { return s == nil })
}

// guard is the first check of a part. It takes the steps of the whole visit, and does the checks of type, const and enum, which
// the library would do before it, and of numbers.
type guard struct {
	meter *meter
	// tracks is that of the program.
	tracks bool
	// base are the steps of a visit without the value.
	base int

	types     typeSet
	typeNames []string
	// constants are the values of const or enum when none is an array or an object, as constantKey gives them.
	constants map[string]bool
	// rest has the constants that the library compares, and a format.
	rest *jsonschema.Schema
	// restSteps are those of the comparisons.
	restSteps int

	bounds   []bound
	divided  bool // one of the bounds is multipleOf
	unique   bool
	measured bool // minLength or maxLength
}

// addGuard moves the early checks of s into a guard.
func (p *program) addGuard(s *jsonschema.Schema) {
	g := &guard{
		meter: &p.meter, tracks: p.tracks,
		unique: s.UniqueItems, measured: s.MinLength != nil || s.MaxLength != nil, divided: s.MultipleOf != nil,
	}

	g.base = 3 + len(s.AllOf) + len(s.AnyOf) + len(s.OneOf) + (len(s.Required)+len(s.Dependencies)+len(s.DependentSchemas))/4
	for _, names := range s.DependentRequired {
		g.base += 1 + len(names)/4
	}
	if s.Ref != nil {
		g.base += 2
	}
	if s.DynamicRef != nil {
		g.base += 10
	}

	if s.Types != nil {
		g.typeNames = s.Types.ToStrings()
		g.types = typesOf(g.typeNames)
	}
	g.takeConstants(s)
	g.takeBounds(s)

	s.Types, s.Const, s.Enum = nil, nil, nil
	s.Format = &jsonschema.Format{Name: "guard", Validate: g.visit}
}

// takeConstants prepares const, enum and format.
func (g *guard) takeConstants(s *jsonschema.Schema) {
	rest := &jsonschema.Schema{DraftVersion: s.DraftVersion, Location: s.Location, Const: s.Const, Enum: s.Enum, Format: s.Format}
	switch {
	case s.Const != nil && s.Enum == nil:
		g.constants = makeConstants([]any{*s.Const})
	case s.Enum != nil && s.Const == nil:
		g.constants = makeConstants(s.Enum.Values)
	}
	if g.constants != nil {
		rest.Const, rest.Enum = nil, nil
	}
	if rest.Const == nil && rest.Enum == nil && rest.Format == nil {
		return
	}

	g.rest = rest
	g.restSteps = 10
	if rest.Const != nil {
		g.restSteps += 20 * countNodes(*rest.Const)
	}
	if rest.Enum != nil {
		g.restSteps += 20 * countNodes(rest.Enum.Values)
	}
}

// makeConstants returns the keys of values; nil when one of them is an array or an object.
func makeConstants(values []any) map[string]bool {
	constants := make(map[string]bool, len(values))
	for _, v := range values {
		key := constantKey(v)
		if key == "" {
			return nil
		}
		constants[key] = true
	}
	return constants
}

// constantKey returns a text that is equal for equal values alone, "" for an array or an object.
func constantKey(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "bool " + strconv.FormatBool(v)
	case string:
		return "text " + v
	case json.Number:
		if r, ok := new(big.Rat).SetString(string(v)); ok {
			return "number " + r.RatString()
		}
	}
	return ""
}

// countNodes returns the number of values in v, with itself.
func countNodes(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, value := range v {
			n += countNodes(value)
		}
	case []any:
		for _, value := range v {
			n += countNodes(value)
		}
	}
	return n
}

// visit is the format of a part.
func (g *guard) visit(v any) error {
	g.meter.spend(g.cost(v))
	err := g.check(v)
	if err != nil {
		g.meter.spend(5) // the fault is kept until the end
	}
	return err
}

// check does the early checks.
func (g *guard) check(v any) error {
	if g.types != 0 && !g.types.has(v) {
		return &typeFault{got: nameType(v), want: g.typeNames}
	}
	if g.constants != nil && !g.constants[constantKey(v)] {
		return errConstant
	}
	if g.rest != nil {
		if err := g.rest.Validate(v); err != nil {
			return err
		}
	}
	if n, ok := v.(json.Number); ok && g.bounds != nil {
		return g.checkBounds(n)
	}
	return nil
}

// cost returns the steps of a visit of v, without those of its parts.
func (g *guard) cost(v any) int {
	steps := g.base + g.restSteps
	switch v := v.(type) {
	case map[string]any:
		steps += g.costMembers(len(v))
	case []any:
		steps += g.costMembers(len(v))
		if g.unique && len(v) > 1 {
			steps += costUnique(v)
		}
	case string:
		if g.measured {
			steps += len(v) / 32
		}
		if g.constants != nil {
			steps += len(v) / 64
		}
	case json.Number:
		if g.bounds != nil || g.types != 0 || g.constants != nil {
			steps += costNumber(v)
		}
		if g.divided {
			steps += 2 * costNumber(v)
		}
	}
	return steps
}

// costMembers returns the steps for the members of an object or the items of an array.
func (g *guard) costMembers(n int) int {
	if g.tracks {
		return 4 * n
	}
	return n
}

// costNumber returns the steps to make a fraction of a number.
func costNumber(n json.Number) int {
	switch {
	case strings.ContainsAny(string(n), "eE"):
		return 30 + len(n)/8
	case len(n) > 20:
		return 5 + len(n)/8
	}
	return 1
}

// costUnique returns the steps of the search for equal items: up to 20 of them are compared with one another, others by hashes.
func costUnique(items []any) int {
	const compared = 20
	if len(items) <= compared {
		return len(items) * costHash(items)
	}
	return costHash(items) + 8*len(items)
}

// costHash returns the steps to hash or compare v.
func costHash(v any) int {
	steps := 2
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			steps += 3 + len(name)/32 + costHash(value)
		}
	case []any:
		for _, item := range v {
			steps += costHash(item)
		}
	case string:
		steps += len(v) / 32
	case json.Number:
		steps += 3 + costNumber(v)
	}
	return steps
}

// isInteger reports whether a number has no fraction.
func isInteger(n json.Number) bool {
	if !strings.ContainsAny(string(n), ".eE") {
		return true
	}
	r, ok := new(big.Rat).SetString(string(n))
	return ok && r.IsInt()
}
