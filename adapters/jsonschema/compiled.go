package jsonschema

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

// compiled is a schema with copies for callers at the same time.
type compiled struct {
	source json.RawMessage
	// copies are those that no validation uses; made is the number of all.
	copies chan *program
	made   atomic.Int32
	bytes  int
}

var _ schema.Schema = (*compiled)(nil)

// About the memory of a part with its guard, and of an instruction of a pattern.
const (
	partBytes        = 1_500
	instructionBytes = 75
)

// newCompiled returns a schema with its first copy.
func newCompiled(source json.RawMessage, first *program) *compiled {
	s := &compiled{source: source, copies: make(chan *program, runtime.GOMAXPROCS(0))}
	s.bytes = len(source) + cap(s.copies)*(2*len(source)+partBytes*first.parts+instructionBytes*first.instructions)
	s.made.Store(1)
	s.copies <- first
	return s
}

// Bytes implements schema.Schema. It counts all copies that may come.
func (s *compiled) Bytes() int { return s.bytes }

// Validate implements schema.Schema.
func (s *compiled) Validate(ctx context.Context, payload json.RawMessage) (schema.Report, error) {
	stats, err := schema.Scan("payload", payload)
	if err != nil {
		return schema.Report{}, err
	}
	start := time.Now()
	value, err := decode(payload)
	if err != nil {
		return schema.Report{}, queue.Invalid("payload", "must be one JSON value: "+err.Error())
	}
	// The decode measures this machine at this moment: a slow one gets more time.
	limit := min(max(10*time.Since(start), MinTime), MaxTime)

	p, err := s.takeCopy(ctx)
	if err != nil {
		return schema.Report{}, err
	}
	defer func() { s.copies <- p }()

	deadline := time.Now().Add(limit)
	steps := allowedSteps(len(payload), stats)
	refused, err := p.run(ctx, p.check, value, steps, deadline)
	switch {
	case err != nil:
		return schema.Report{}, describeCut(err)
	case refused != nil: // the payload is good: the not failed
		return schema.Report{}, nil
	}

	// Only a refused payload pays for the second run, which allocates for each fault.
	faults, err := p.run(ctx, p.list, value, min(steps, stepsToList), deadline)
	switch {
	case errors.As(err, new(cutReason)) || faults == nil:
		return schema.Report{More: true}, nil
	case err != nil:
		return schema.Report{}, describeCut(err)
	}
	return listFaults(faults), nil
}

// takeCopy returns a copy that no other validation uses. It makes one while there are fewer than CPUs.
func (s *compiled) takeCopy(ctx context.Context) (*program, error) {
	select {
	case p := <-s.copies:
		return p, nil
	default:
	}

	if n := s.made.Load(); int(n) < cap(s.copies) && s.made.CompareAndSwap(n, n+1) {
		p, err := compileSource(s.source) // it has compiled before, in time
		if err == nil {
			return p, nil
		}
		// Another call may try again; until then the copies that there are serve all.
		s.made.Add(-1)
	}

	select {
	case p := <-s.copies:
		return p, nil
	case <-ctx.Done():
		return nil, queue.ContextError(ctx.Err())
	}
}

// run validates value. It returns the faults, or the reason for which the validation was cut.
func (p *program) run(ctx context.Context, s *jsonschema.Schema, value any, steps int, deadline time.Time) (faults *jsonschema.ValidationError, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case cut:
			err = r.err
		default:
			err = errDefect
		}
	}()

	p.meter.start(ctx, steps, deadline)
	if err := s.Validate(value); err != nil {
		found, ok := errors.AsType[*jsonschema.ValidationError](err)
		if !ok {
			return nil, errDefect
		}
		return found, nil
	}
	return nil, nil
}

// errDefect stands for a panic of the library.
var errDefect = errors.New("a defect of the library")

// describeCut returns the error of a payload that could not be checked.
func describeCut(err error) error {
	switch {
	case errors.Is(err, outOfSteps):
		return queue.Invalid("payload", "must be checked against the schema of its queue with about the work of ten decodes, got more; send less, or make the schema simpler")
	case errors.Is(err, outOfTime):
		return queue.Invalid("payload", fmt.Sprintf("must be checked against the schema of its queue within %v, got more; send less, or make the schema simpler", MaxTime))
	case errors.Is(err, errDefect):
		return queue.Invalid("payload", "must be a value that the schema of its queue can check, got a fault of the check; change the value, or make the schema simpler")
	}
	return queue.ContextError(err)
}
