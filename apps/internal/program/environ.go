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

// Variable is the environment variable of a flag: PGQUEUE_ADDR for addr.
func Variable(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment annotates flags that have an environment variable.
const fromEnvironment = "pgqueue_environment"

// FromEnvironment gives the flags of fs that names names an environment variable, or all of them when it names none.
// Programs that run for long take every setting from there. A command takes only what says where and as whom it works,
// never what it does: a variable that was set for something else must not change that.
func FromEnvironment(fs *pflag.FlagSet, names ...string) {
	fs.VisitAll(func(f *pflag.Flag) {
		if len(names) > 0 && !slices.Contains(names, f.Name) {
			return
		}
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[fromEnvironment] = []string{Variable(f.Name)}
	})
}

// Environ sets the flags that were not given from their environment variables, where FromEnvironment gave them one. An
// empty variable counts as unset. own, when given, is what a program's own variables begin with instead of Prefix: they
// are stronger.
func Environ(fs *pflag.FlagSet, lookup func(string) (string, bool), own ...string) error {
	var bad error
	fs.VisitAll(func(f *pflag.Flag) {
		var names []string
		for _, name := range f.Annotations[fromEnvironment] {
			for _, prefix := range own {
				names = append(names, prefix+strings.TrimPrefix(name, Prefix))
			}
			names = append(names, name)
		}
		for _, name := range names {
			v, ok := lookup(name)
			if f.Changed || bad != nil || !ok || v == "" {
				continue
			}
			if err := set(fs, f, v); err != nil {
				bad = queue.Invalid(name, fmt.Sprintf("%q is not for --%s", v, f.Name))
			}
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
