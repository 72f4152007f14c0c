package jsonschema

import (
	"context"
	"time"

	"github.com/pgqueue/pgqueue/domain/schema"
)

// The work that a validation may do, in steps of about 100 ns: ten times the decoding of the payload, which takes about 2.5 ns
// for a byte, 90 ns for a value, and 100 ns more for an object.
const (
	stepsBase      = 50_000
	bytesPerStep   = 4
	stepsPerNode   = 9
	stepsPerObject = 10
	// stepsToList bounds the second validation, which lists the faults: each fault takes up to half a kilobyte.
	stepsToList = 500_000
	// stepsPerLook is how often a validation looks at the clock.
	stepsPerLook = 500
)

// MaxTime bounds a validation by the clock: ten times the decoding of its payload, but at least MinTime and at most MaxTime.
const (
	MaxTime = time.Second
	// MinTime keeps a machine that is busy from cutting small validations.
	MinTime = 250 * time.Millisecond
)

// meter counts the work of one validation at a time.
type meter struct {
	ctx      context.Context //nolint:containedctx // of one validation; the library has no place to pass it
	left     int
	look     int
	deadline time.Time
}

// cut is the panic that ends a validation.
type cut struct{ err error }

// Why a validation was cut.
type cutReason string

func (r cutReason) Error() string { return string(r) }

const (
	outOfSteps cutReason = "steps"
	outOfTime  cutReason = "time"
)

// allowedSteps is the work that a payload may take.
func allowedSteps(bytes int, stats schema.Stats) int {
	return stepsBase + bytes/bytesPerStep + stepsPerNode*stats.Nodes + stepsPerObject*stats.Objects
}

// start begins a validation.
func (m *meter) start(ctx context.Context, steps int, deadline time.Time) {
	*m = meter{ctx: ctx, left: steps, look: steps - stepsPerLook, deadline: deadline}
}

// spend takes steps for the work that follows, and cuts the validation when none are left.
func (m *meter) spend(steps int) {
	m.left -= steps
	if m.left < 0 {
		panic(cut{outOfSteps})
	}
	if m.left < m.look {
		m.look = m.left - stepsPerLook
		m.lookAtClock()
	}
}

// lookAtClock cuts the validation after its deadline or the end of its context.
func (m *meter) lookAtClock() {
	if m.ctx.Err() != nil {
		panic(cut{m.ctx.Err()})
	}
	if time.Now().After(m.deadline) {
		panic(cut{outOfTime})
	}
}
