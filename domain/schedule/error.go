package schedule

import "fmt"

// The fields that an [Error] can name. They are the JSON names of the ticker's fields.
const (
	FieldPeriod       = "period"
	FieldCron         = "cron"
	FieldTimezone     = "timezone"
	FieldMisfire      = "misfire"
	FieldMisfireLimit = "misfire_limit"
)

// Error describes a field of a ticker that cannot be accepted: the reason, and
// the allowed values. Every error of this package is an *Error. Its text holds
// at most as many bytes of the input as the limits of the field allow.
type Error struct {
	Field string // one of the Field constants
	Msg   string // a phrase for people: no trailing full stop, no field name in front
}

// Error returns "field: message".
func (e *Error) Error() string { return e.Field + ": " + e.Msg }

// invalidSpec formats the message of an Error.
func invalidSpec(field, format string, args ...any) *Error {
	return &Error{Field: field, Msg: fmt.Sprintf(format, args...)}
}
