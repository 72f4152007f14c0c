package input

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Name is the name of a queue, a ticker or a namespace.
type Name string

// Schema describes a name before the domain has trimmed and lower-cased it.
func (Name) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^\s*[A-Za-z][A-Za-z0-9_-]{0,62}\s*$`}
}

// Number is an integer; absent is 0.
type Number struct{ Value int }

// UnmarshalText reads a decimal integer.
func (n *Number) UnmarshalText(text []byte) (err error) {
	if n.Value, err = strconv.Atoi(string(text)); err != nil {
		return fmt.Errorf("must be an integer, got %q", restapi.Shorten(string(text)))
	}
	return nil
}

// Schema describes a number; its limits are tags of the field.
func (Number) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64"}
}

// Limit is a count of at least 1. Absent is 0, which a request must not send, because it would read as "no limit".
type Limit struct{ Number }

// UnmarshalText reads a decimal integer above 0.
func (l *Limit) UnmarshalText(text []byte) error {
	if err := l.Number.UnmarshalText(text); err != nil {
		return err
	}
	if l.Value < 1 {
		return fmt.Errorf("must be at least 1, got %d", l.Value)
	}
	return nil
}

// ID is the id of a task.
type ID struct{ Value int64 }

// UnmarshalText reads an id above 0.
func (i *ID) UnmarshalText(text []byte) (err error) {
	if i.Value, err = strconv.ParseInt(string(text), 10, 64); err != nil || i.Value <= 0 {
		return fmt.Errorf("must be the id of a task, an integer above 0, got %q", restapi.Shorten(string(text)))
	}
	return nil
}

// Schema describes an id.
func (ID) Schema(huma.Registry) *huma.Schema {
	least := 1.0
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &least}
}

// Flag is true or false; absent is false.
type Flag struct{ Value bool }

// UnmarshalText reads true or false, or the short forms of strconv.ParseBool.
func (f *Flag) UnmarshalText(text []byte) (err error) {
	if f.Value, err = strconv.ParseBool(string(text)); err != nil {
		return fmt.Errorf("must be true or false, got %q", restapi.Shorten(string(text)))
	}
	return nil
}

// Schema describes a flag.
func (Flag) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean} }

// Duration is an integer of nanoseconds, or text such as "1m30s"; absent is 0.
type Duration struct {
	Value time.Duration
	// Given: the parameter is there, maybe as 0.
	Given bool
}

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	d.Value, err = restapi.ParseDuration("", string(text))
	d.Given = true
	return messageOf(err)
}

// Schema describes the two ways to write a duration.
func (Duration) Schema(huma.Registry) *huma.Schema {
	least := 0.0
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeInteger, Format: "int64", Minimum: &least, Description: "Nanoseconds"},
		{Type: huma.TypeString, Pattern: `^([0-9]*\.?[0-9]+(w|d|h|m|s|ms|us|ns))+$`, Description: "Numbers with units"},
	}}
}

// Instant is a time of RFC 3339 in a filter; absent is the zero time.
type Instant struct{ Value time.Time }

// UnmarshalText reads a time.
func (i *Instant) UnmarshalText(text []byte) (err error) {
	i.Value, err = restapi.ParseTime("", string(text))
	if err == nil {
		err = queue.CheckGivenTime("", i.Value)
	}
	return messageOf(err)
}

// Schema describes a time.
func (Instant) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}

// messageOf returns the text of a domain error without its field, because huma adds the place of the parameter.
func messageOf(err error) error {
	if e, ok := errors.AsType[*queue.Error](err); ok {
		return errors.New(e.Msg)
	}
	return err
}
