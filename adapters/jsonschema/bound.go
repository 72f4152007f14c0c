package jsonschema

import (
	"encoding/json"
	"errors"
	"math/big"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// bound is a rule for numbers.
type bound struct {
	keyword string
	rule    string // without the number
	number  *big.Rat
	// whole is the number when it is an integer of 64 bits.
	whole   int64
	isWhole bool
	// keeps reports whether a value keeps the rule, by its comparison with the number.
	keeps func(comparison int) bool
}

// boundFault is the fault of a number.
type boundFault struct{ bound *bound }

func (f *boundFault) Error() string { return f.bound.rule + " " + formatNumber(f.bound.number) }

// takeBounds moves the rules for numbers from s into the guard, because the library makes a fraction of each number, and
// another one for each fault.
func (g *guard) takeBounds(s *jsonschema.Schema) {
	for _, b := range []bound{
		{keyword: "minimum", rule: "must be at least", number: s.Minimum, keeps: func(c int) bool { return c >= 0 }},
		{keyword: "maximum", rule: "must be at most", number: s.Maximum, keeps: func(c int) bool { return c <= 0 }},
		{keyword: "exclusiveMinimum", rule: "must be above", number: s.ExclusiveMinimum, keeps: func(c int) bool { return c > 0 }},
		{keyword: "exclusiveMaximum", rule: "must be below", number: s.ExclusiveMaximum, keeps: func(c int) bool { return c < 0 }},
		{keyword: "multipleOf", rule: "must be a multiple of", number: s.MultipleOf},
	} {
		if b.number == nil {
			continue
		}
		if b.number.IsInt() && b.number.Num().IsInt64() {
			b.whole, b.isWhole = b.number.Num().Int64(), true
		}
		g.bounds = append(g.bounds, b)
	}
	s.Minimum, s.Maximum, s.ExclusiveMinimum, s.ExclusiveMaximum, s.MultipleOf = nil, nil, nil, nil, nil
}

// checkBounds checks a number.
func (g *guard) checkBounds(n json.Number) error {
	whole, err := strconv.ParseInt(string(n), 10, 64)
	isWhole := err == nil
	var exact *big.Rat
	for i := range g.bounds {
		b := &g.bounds[i]
		if isWhole && b.isWhole {
			if !b.keepsWhole(whole) {
				return &boundFault{b}
			}
			continue
		}

		// A fraction of any size costs an allocation, so whole numbers never make one.
		if exact == nil {
			var ok bool
			if exact, ok = new(big.Rat).SetString(string(n)); !ok {
				return errNumber
			}
		}
		if !b.keepsExact(exact) {
			return &boundFault{b}
		}
	}
	return nil
}

// errNumber is the fault of a number that no fraction can hold, which Scan has refused before.
var errNumber = errors.New("must be a number of another form")

func (b *bound) keepsWhole(n int64) bool {
	if b.keeps == nil {
		return n%b.whole == 0
	}
	switch {
	case n < b.whole:
		return b.keeps(-1)
	case n > b.whole:
		return b.keeps(1)
	}
	return b.keeps(0)
}

func (b *bound) keepsExact(n *big.Rat) bool {
	if b.keeps == nil {
		return new(big.Rat).Quo(n, b.number).IsInt()
	}
	return b.keeps(n.Cmp(b.number))
}
