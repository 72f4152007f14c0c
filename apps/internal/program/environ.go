package program

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Prefix is what the names of all environment variables of pgqueue begin with.
const Prefix = "PGQUEUE_"

// notFromEnvironment are flags that ask for something else than what the program is there for.
var notFromEnvironment = []string{"help", "version", "check"}

// Variable is the environment variable of a flag: PGQUEUE_ADDR for addr.
func Variable(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Environ sets the flags that were not given from their environment variables. An empty variable counts as unset. only,
// when given, names the flags that the environment may set; without it that is every flag.
func Environ(fs *pflag.FlagSet, lookup func(string) (string, bool), only ...string) error {
	var bad error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || bad != nil || slices.Contains(notFromEnvironment, f.Name) || len(only) > 0 && !slices.Contains(only, f.Name) {
			return
		}
		name := Variable(f.Name)
		v, ok := lookup(name)
		if !ok || v == "" {
			return
		}
		if err := set(fs, f, v); err != nil {
			bad = queue.Invalid(name, fmt.Sprintf("%q is not for --%s", v, f.Name))
		}
	})
	return bad
}

// set gives a flag the value of a variable or of a file. A list is separated by commas.
func set(fs *pflag.FlagSet, f *pflag.Flag, value string) error {
	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		return fs.Set(f.Name, value)
	}
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	if err := list.Replace(parts); err != nil {
		return err
	}
	f.Changed = true
	return nil
}
