package schedule

import "fmt"

// The fields an [Error] can name. They are the JSON names of the ticker's fields.
const (
	FieldPeriod       = "period"
	FieldCron         = "cron"
	FieldTimezone     = "timezone"
	FieldMisfire      = "misfire"
	FieldMisfireLimit = "misfire_limit"
)

// Error says which field of a ticker cannot be accepted, why, and what is
// allowed. Every error of this package is an *Error. Its text never holds more
// of the input than the limits of the field let through.
type Error struct {
	Field string // one of the Field constants
	Msg   string // a phrase for people: no trailing full stop, no field name in front
}

// Error gives "field: message".
func (e *Error) Error() string { return e.Field + ": " + e.Msg }

func errorf(field, format string, args ...any) *Error {
	return &Error{Field: field, Msg: fmt.Sprintf(format, args...)}
}
