package cmdutil

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// FlagError explains an error of a flag and suggests the flag that may have been meant.
func FlagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}

	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return Usage("%s", UnknownFlag(cmd, e.GetSpecifiedName()))
	}

	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return Usage("--%s: must have a value, got none", e.GetFlag().Name)
	}

	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return Usage("--%s: %s", e.GetFlag().Name, describeInvalidValue(e))
	}

	return Usage("%s", err.Error())
}

// describeInvalidValue names the accepted values, where the text of the Go library is for programmers.
func describeInvalidValue(e *pflag.InvalidValueError) string {
	value, kind := strconv.Quote(e.GetValue()), e.GetFlag().Value.Type()
	_, number := errors.AsType[*strconv.NumError](e)
	switch {
	case errors.Is(e, strconv.ErrRange):
		return "must fit 64 bits, got " + value
	case number && kind == "bool":
		return "must be true or false, got " + value
	case number:
		return "must be a whole number, got " + value
	}

	text := errors.Unwrap(e).Error()
	if kind == "duration" && strings.HasPrefix(text, "time: ") {
		return "must be a duration such as 30s or 1m30s, got " + value
	}

	return text
}
