package jsonschema

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

// The limits of a compile.
const (
	// MaxCompileTime is the time that a schema may take to compile.
	MaxCompileTime = 2 * time.Second
	// MaxCompiles bounds the compiles under way in one Compiler.
	MaxCompiles = 2
	// MaxParts bounds the objects and booleans of a schema.
	MaxParts = 5_000
	// MaxChain bounds the parts of a schema that look at one value, each by the one before it.
	MaxChain = 40
)

// The URLs of the documents of a compile. No name of a host ends with invalid, so no reference meets them by chance.
const (
	sourceURL = "https://pgqueue.invalid/schema"
	checkURL  = "https://pgqueue.invalid/check"
	dialect   = "https://json-schema.org/draft/2020-12/schema"
)

// Compiler is a schema.Compiler. Make one with NewCompiler.
type Compiler struct {
	maxTime time.Duration
	slots   chan struct{}
}

var _ schema.Compiler = (*Compiler)(nil)

// NewCompiler returns a Compiler.
func NewCompiler() *Compiler {
	return &Compiler{maxTime: MaxCompileTime, slots: make(chan struct{}, MaxCompiles)}
}

// Compile implements schema.Compiler.
func (c *Compiler) Compile(ctx context.Context, source json.RawMessage) (schema.Schema, error) {
	if err := schema.CheckSource(source); err != nil {
		return nil, err
	}
	// Later copies compile the source again, and the caller may change its bytes by then.
	source = bytes.Clone(source)
	if err := checkParts(source); err != nil {
		return nil, err
	}

	first, err := c.compileWithin(ctx, source)
	if err != nil {
		return nil, err
	}
	return newCompiled(source, first), nil
}

// compileWithin compiles in a goroutine, and leaves it when the time is over.
func (c *Compiler) compileWithin(ctx context.Context, source json.RawMessage) (*program, error) {
	within, stop := context.WithTimeout(ctx, c.maxTime)
	defer stop()

	select {
	case c.slots <- struct{}{}:
	case <-within.Done():
		if ctx.Err() != nil {
			return nil, queue.ContextError(ctx.Err())
		}
		return nil, &queue.Error{
			Kind: queue.KindExhausted, Subject: "compiles of schemas",
			Msg: fmt.Sprintf("%d are under way, which is the most; repeat the call later", MaxCompiles),
		}
	}

	type result struct {
		program *program
		err     error
	}
	// The library cannot be stopped. The goroutine keeps its slot, so that at most MaxCompiles of them exist.
	done := make(chan result, 1)
	go func() {
		defer func() { <-c.slots }()
		p, err := compileSource(source)
		done <- result{p, err}
	}()

	select {
	case r := <-done:
		return r.program, r.err
	case <-within.Done():
		if ctx.Err() != nil {
			return nil, queue.ContextError(ctx.Err())
		}
		return nil, queue.Invalid("schema", fmt.Sprintf("must be compiled within %v, got more; make it simpler", c.maxTime))
	}
}

// compileSource compiles a schema that passed checkParts. A panic of the library is an error.
func compileSource(source json.RawMessage) (p *program, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = queue.Invalid("schema", "must be a schema that can be compiled, got a fault of the compile; make it simpler")
		}
	}()

	document, err := decode(source)
	if err != nil {
		return nil, queue.Invalid("schema", "must be one JSON value: "+err.Error())
	}

	p = &program{}
	// The compile runs the patterns of the dialect through the same engine, and must not run out of steps.
	p.meter.start(context.Background(), math.MaxInt, time.Now().Add(time.Hour))
	lib := jsonschema.NewCompiler()
	lib.DefaultDraft(jsonschema.Draft2020)
	lib.UseLoader(refusingLoader{})
	lib.UseRegexpEngine(p.compilePattern)
	for url, doc := range map[string]any{sourceURL: document, checkURL: map[string]any{"not": map[string]any{"$ref": sourceURL}}} {
		if err := lib.AddResource(url, doc); err != nil {
			return nil, describeCompile(err)
		}
	}

	if p.list, err = lib.Compile(sourceURL); err != nil {
		return nil, describeCompile(err)
	}
	if p.check, err = lib.Compile(checkURL); err != nil {
		return nil, describeCompile(err)
	}

	// A dynamic reference may lead to a part that no other part names.
	roots := []*jsonschema.Schema{p.check}
	for _, pointer := range findDynamicAnchors(document) {
		// An anchor within data, as in a const, belongs to no schema, so its compile may fail.
		if root, err := lib.Compile(sourceURL + "#" + pointer); err == nil {
			roots = append(roots, root)
		}
	}
	return p, p.instrument(roots)
}

// refusingLoader refuses every document outside of the schema.
type refusingLoader struct{}

// outwardError is the refusal of a reference.
type outwardError struct{ url string }

func (e *outwardError) Error() string { return "the reference " + e.url + " leads outside" }

// Load implements jsonschema.URLLoader.
func (refusingLoader) Load(url string) (any, error) { return nil, &outwardError{url} }

// decode decodes JSON with exact numbers.
func decode(b []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	return v, nil
}
