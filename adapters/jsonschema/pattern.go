package jsonschema

import (
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The limits of a pattern.
const (
	// MaxPatternBytes bounds a pattern.
	MaxPatternBytes = 1_024
	// maxProgram bounds the instructions of a compiled pattern: each character of a text may visit all of them.
	maxProgram = 1_000
	// maxPrograms bounds those of all patterns of a schema, for their memory. The library compiles each of them twice.
	maxPrograms = 200_000
	// maxQuickMatch bounds the visits of instructions in a match that is not looked at in between: 50 µs.
	maxQuickMatch = 5_000
)

// pattern is a regular expression that counts its work.
type pattern struct {
	expression   *regexp.Regexp
	instructions int
	meter        *meter
}

// compilePattern is the engine for the patterns of a schema.
func (p *program) compilePattern(source string) (jsonschema.Regexp, error) {
	if len(source) > MaxPatternBytes {
		return nil, queue.Invalid("schema", fmt.Sprintf("must have patterns of at most %d bytes, got one of %d", MaxPatternBytes, len(source)))
	}

	// Parsed apart, because a compiled regexp does not show the number of its instructions.
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, queue.Invalid("schema", fmt.Sprintf("must have patterns in the syntax of RE2, got %.64q; write it without lookarounds and references back", source))
	}
	compiled, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(compiled.Inst) > maxProgram {
		return nil, queue.Invalid("schema", fmt.Sprintf("must have patterns with fewer repeats, got %.64q; lower the numbers in braces", source))
	}
	if p.instructions += len(compiled.Inst); p.instructions > maxPrograms {
		return nil, queue.Invalid("schema", fmt.Sprintf("must have patterns of at most %d instructions together, got more at %.64q; use fewer or shorter ones", maxPrograms/2, source))
	}
	expression, err := regexp.Compile(source)
	if err != nil {
		return nil, queue.Invalid("schema", fmt.Sprintf("must have patterns in the syntax of RE2, got %.64q; write it without lookarounds and references back", source))
	}
	return &pattern{expression: expression, instructions: len(compiled.Inst), meter: &p.meter}, nil
}

// String returns the source.
func (p *pattern) String() string { return p.expression.String() }

// MatchString reports a match. A match that may take long reads the text through the meter, so that it can be cut.
func (p *pattern) MatchString(s string) bool {
	visits := len(s) * p.instructions
	if visits <= maxQuickMatch {
		p.meter.spend(1 + len(s)/8 + visits/500)
		return p.expression.MatchString(s)
	}
	return p.expression.MatchReader(&meteredReader{text: s, pattern: p})
}

// meteredReader gives the characters of a text and takes steps for each.
type meteredReader struct {
	text    string
	pattern *pattern
	visits  int
}

// ReadRune implements io.RuneReader.
func (r *meteredReader) ReadRune() (rune, int, error) {
	if r.text == "" {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRuneInString(r.text)
	r.text = r.text[n:]

	// Each character visits up to all instructions, 10 ns each. Of a short program few are active at one.
	const (
		visitsPerStep = 10
		shortProgram  = 16
		shortVisits   = 8
	)
	if r.pattern.instructions <= shortProgram {
		r.visits += shortVisits
	} else {
		r.visits += r.pattern.instructions
	}
	if r.visits >= 100*visitsPerStep {
		r.pattern.meter.spend(r.visits / visitsPerStep)
		r.visits = 0
	}
	return c, n, nil
}
