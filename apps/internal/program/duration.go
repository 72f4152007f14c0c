package program

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// ParseDuration reads the duration of a flag, a variable or a key of a file: the forms of REST, such as 30s, 1h30m and
// 7d, without the bare nanoseconds.
func ParseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseUint(s, 10, 64); err == nil && s != "0" {
		return 0, fmt.Errorf("must have a unit, got %.64q; write it as %.64ss", s, s)
	}

	d, err := restapi.ParseDuration("", s)
	if err != nil || d > queue.MaxDuration {
		// The original text describes a duration in JSON.
		return 0, fmt.Errorf("must be a duration from 0 to 10 years, such as 30s, 1h30m or 7d, got %.64q", s)
	}

	return d, nil
}

// DurationVar defines a flag of a duration. The present value is the default.
func DurationVar(fs *pflag.FlagSet, to *time.Duration, name, usage string) {
	fs.Var(duration{to: to}, name, usage)
}

// TimeoutVar defines a flag of a duration above 0. A timeout of 0 would silently mean the default.
func TimeoutVar(fs *pflag.FlagSet, to *time.Duration, name, usage string) {
	fs.Var(duration{to: to, aboveZero: true}, name, usage)
}

// duration is the value of a flag of a duration.
type duration struct {
	to        *time.Duration
	aboveZero bool
}

// Set implements pflag.Value.
func (d duration) Set(s string) error {
	v, err := ParseDuration(s)
	if err != nil {
		return err
	}

	if d.aboveZero && v == 0 {
		return fmt.Errorf("must be a duration above 0, got %.64q; leave it out for the default", s)
	}

	*d.to = v
	return nil
}

// String returns the duration, or "" for 0.
func (d duration) String() string {
	if d.to == nil || *d.to == 0 {
		return ""
	}
	return d.to.String()
}

// Type implements pflag.Value.
func (duration) Type() string { return "duration" }
