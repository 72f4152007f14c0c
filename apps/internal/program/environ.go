package program

import (
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Prefix begins the names of all environment variables of pgqueue.
const Prefix = "PGQUEUE_"

// Variable returns the environment variable of a flag: PGQUEUE_ADDR for addr.
func Variable(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment annotates flags with an environment variable.
const fromEnvironment = "pgqueue_environment"

// FromEnvironment adds an environment variable to the named flags of fs, or to all flags without names. Long-running
// programs read every setting from there. A command reads only its target and identity, never its action: a variable
// for another purpose must not change the action.
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

// variablesOf returns the environment variables of a flag. own are the prefixes that replace Prefix for the program's own
// variables, which come first.
func variablesOf(f *pflag.Flag, own []string) (names []string) {
	for _, name := range f.Annotations[fromEnvironment] {
		for _, prefix := range own {
			names = append(names, prefix+strings.TrimPrefix(name, Prefix))
		}
		names = append(names, name)
	}
	return names
}

// inPlaceOf annotates a flag with the one that it replaces.
const inPlaceOf = "pgqueue_in_place_of"

// InPlaceOf makes a flag of the command line replace the variable of another flag, with which it must not come otherwise. A
// variable may be there for other programs.
func InPlaceOf(fs *pflag.FlagSet, flag, other string) {
	_ = fs.SetAnnotation(flag, inPlaceOf, []string{other})
}

// replacedFlags returns the flags that flags of the command line replace.
func replacedFlags(fs *pflag.FlagSet) (names []string) {
	fs.Visit(func(f *pflag.Flag) { names = append(names, f.Annotations[inPlaceOf]...) })
	return names
}

// Environ sets the flags that are not given from their environment variables, where FromEnvironment has added one. An
// empty variable counts as unset. own replaces Prefix for the program's own variables, which have precedence.
func Environ(fs *pflag.FlagSet, lookup func(string) (string, bool), own ...string) error {
	replaced := replacedFlags(fs) // before a variable sets a flag
	var bad error
	fs.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(replaced, f.Name) {
			return
		}
		for _, name := range variablesOf(f, own) {
			v, ok := lookup(name)
			if f.Changed || bad != nil || !ok || v == "" {
				continue
			}

			if err := setFromVariable(fs, f, v); err != nil {
				bad = queue.Invalid(name, err.Error())
			}
		}
	})

	return bad
}

// oneALine annotates lists with values that may contain commas.
const oneALine = "pgqueue_one_a_line"

// OneALine separates the values of the named flags of fs by line ends in their variables, and not by commas.
func OneALine(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		_ = fs.SetAnnotation(name, oneALine, []string{"yes"})
	}
}

// elsewhere holds the variables that clients of a server read. Servers and workers may run beside them.
var elsewhere = []string{"URL", "PROTOCOL", "AUTH_TOKEN", "AUTH_TOKEN_FILE", "CA_FILE", "CERT_FILE", "KEY_FILE", "TIMEOUT", "OUTPUT", "NAMESPACE"}

// elsewherePrefixes begin variables that commands and tests receive, and those of the worker alone. Kubernetes sets the
// others for a service with the name pgqueue or pgqueue-server.
var elsewherePrefixes = []string{"TASK_", "TEST_", "WORKER_", "SERVICE_", "PORT_", "SERVER_SERVICE_", "SERVER_PORT_"}

// isElsewhere reports whether another program reads or sets the variable Prefix + rest.
func isElsewhere(rest string) bool {
	return slices.Contains(elsewhere, rest) || rest == "PORT" || rest == "SERVER_PORT" ||
		slices.ContainsFunc(elsewherePrefixes, func(begin string) bool { return strings.HasPrefix(rest, begin) })
}

// Variables returns the names of the environment variables that flags of fs read. own is as in Environ.
func Variables(fs *pflag.FlagSet, own ...string) (names []string) {
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, variablesOf(f, own)...) })
	return names
}

// Unread returns the variables of environ, in the form of os.Environ, that begin like those of pgqueue and that no
// flag of fs reads. A misspelt variable would silently have no effect. own is as in Environ.
func Unread(fs *pflag.FlagSet, environ []string, own ...string) (names []string) {
	read := Variables(fs, own...)
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		rest, ours := strings.CutPrefix(name, Prefix)
		if !ours || slices.Contains(read, name) {
			continue
		}

		// Its own variables belong to no other program.
		isOwn := slices.ContainsFunc(own, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if isOwn || !isElsewhere(rest) {
			names = append(names, name)
		}
	}

	slices.Sort(names)
	return names
}

// WarnUnread logs the environment variables of this process that Unread returns, and an argument with a secret.
func WarnUnread(log *slog.Logger, fs *pflag.FlagSet, own ...string) {
	warnArguments(log)
	for _, name := range Unread(fs, os.Environ(), own...) {
		log.Warn("no setting is read from this environment variable", "variable", name)
	}
}

// setFromVariable sets a flag from a variable. Commas or line ends separate a list.
func setFromVariable(fs *pflag.FlagSet, f *pflag.Flag, value string) error {
	if secret, ok := f.Value.(*secretValue); ok {
		*secret.to = value
		f.Changed = true
		return nil
	}

	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		return SetFlag(fs, f, value)
	}

	separator := ","
	if len(f.Annotations[oneALine]) > 0 {
		separator = "\n"
	}

	parts := strings.Split(strings.TrimSpace(value), separator)
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}

	if err := list.Replace(parts); err != nil {
		return err
	}

	f.Changed = true
	return nil
}
