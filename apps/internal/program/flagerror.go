package program

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// FlagError returns the usage error of a flag, with the rule of its value.
func FlagError(_ *cobra.Command, err error) error {
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return queue.Invalid("--"+e.GetFlag().Name, describeInvalidValue(e))
	}
	return queue.Invalid("", err.Error())
}

// describeInvalidValue names the accepted values, where the text of the Go library is for programmers.
func describeInvalidValue(e *pflag.InvalidValueError) string {
	value, kind := fmt.Sprintf("%.64q", e.GetValue()), e.GetFlag().Value.Type()
	_, number := errors.AsType[*strconv.NumError](e)
	switch {
	case errors.Is(e, strconv.ErrRange):
		return "must fit " + bitsOf(kind) + " bits, got " + value + "; take a smaller one"
	case number && kind == "bool":
		return "must be true or false, got " + value
	case number:
		return "must be a whole number, got " + value
	}

	return errors.Unwrap(e).Error()
}

// bitsOf returns the size of a type of numbers, such as "16" for int16.
func bitsOf(kind string) string {
	if bits := strings.TrimLeft(kind, "uintfloa"); bits != "" {
		return bits
	}
	return "64"
}

// SetFlag sets a flag of fs from a variable or a file. The error is the rule of its value.
func SetFlag(fs *pflag.FlagSet, f *pflag.Flag, value string) error {
	err := fs.Set(f.Name, value)
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return errors.New(describeInvalidValue(e))
	}
	return err
}

// Renamed refuses the former name of a setting, as a flag and in variables, and names the present one.
func Renamed(fs *pflag.FlagSet, former, present string, variables ...string) {
	fs.Var(renamed(present), former, "")
	fs.Lookup(former).Hidden = true
	_ = fs.SetAnnotation(former, fromEnvironment, variables) // the flag exists
}

// renamed is the value of a flag with a former name; it holds the present name.
type renamed string

func (r renamed) Set(string) error {
	return fmt.Errorf("must be left out; the name of this setting is now %s", string(r))
}

func (renamed) String() string { return "" }

func (renamed) Type() string { return "former name" }
