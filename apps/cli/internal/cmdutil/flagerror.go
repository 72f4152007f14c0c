package cmdutil

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// FlagError says what is wrong with a flag, and which may have been meant.
func FlagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}

	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return Usage("%s", UnknownFlag(cmd, e.GetSpecifiedName()))
	}

	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return Usage("--%s: a value is needed", e.GetFlag().Name)
	}

	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return Usage("--%s: %s", e.GetFlag().Name, describeInvalidValue(e))
	}

	return Usage("%s", err.Error())
}

// describeInvalidValue says what a flag takes instead, where Go's own words are for programmers.
func describeInvalidValue(e *pflag.InvalidValueError) string {
	value, kind := strconv.Quote(e.GetValue()), e.GetFlag().Value.Type()
	_, number := errors.AsType[*strconv.NumError](e)
	switch {
	case errors.Is(e, strconv.ErrRange):
		return value + " is out of range"
	case number && kind == "bool":
		return value + " is neither true nor false"
	case number:
		return value + " is no whole number"
	}

	text := errors.Unwrap(e).Error()
	if kind == "duration" && strings.HasPrefix(text, "time: ") {
		return value + " is no duration, such as 30s or 1m30s"
	}

	return text
}
