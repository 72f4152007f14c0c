package schema

import (
	"fmt"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Fault is one way in which a payload breaks its schema.
type Fault struct {
	// Pointer is the JSON pointer of the value at fault, "" for the whole payload. It is cut to 256 bytes.
	Pointer string
	// Keyword is the one of the schema that the value breaks, as "required".
	Keyword string
	// Msg is the rule, as "must be integer". It shows names and numbers of the schema, and no value of the payload but the
	// names of members.
	Msg string
}

// Report is the result of a validation. The zero value is that of a payload without faults.
type Report struct {
	// Faults are at most MaxFaults, in the order of their pointers.
	Faults []Fault
	// More says that there are others. Without Faults, the payload has too many to list them.
	More bool
}

// OK reports whether the payload keeps the schema.
func (r Report) OK() bool { return len(r.Faults) == 0 && !r.More }

// Err returns the faults as an error of KindInvalid about field, nil without one.
func (r Report) Err(field string) error {
	if r.OK() {
		return nil
	}
	return queue.Invalid(field, "must match the schema of its queue, got faults: "+r.String()+"; correct the payload, or change the schema")
}

// String lists the faults on one line.
func (r Report) String() string {
	var b strings.Builder
	for i, f := range r.Faults {
		if i > 0 {
			b.WriteString(", ")
		}
		if f.Pointer != "" {
			fmt.Fprintf(&b, "%s ", f.Pointer)
		}
		b.WriteString(f.Msg)
	}

	switch {
	case len(r.Faults) == 0 && r.More:
		b.WriteString("it has too many faults to list")
	case r.More:
		b.WriteString(" and more")
	}
	return b.String()
}
