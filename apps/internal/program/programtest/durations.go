// Package programtest has the tests that every program shares.
package programtest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// durations are texts with the duration that each means, or the rule that refuses it.
var durations = []struct {
	text string
	want time.Duration
	rule string
}{
	{text: "7d", want: 7 * 24 * time.Hour},
	{text: "1w", want: 7 * 24 * time.Hour},
	{text: "1h30m", want: 90 * time.Minute},
	{text: "1.5s", want: 1500 * time.Millisecond},
	{text: "3650d", want: 3650 * 24 * time.Hour},
	{text: "3651d", rule: "must be a duration from 0 to 10 years"},
	{text: "5", rule: `must have a unit, got "5"; write it as 5s`},
	{text: "-1s", rule: "must be a duration from 0 to 10 years"},
	{text: "-1", rule: "must be a duration from 0 to 10 years"},
	{text: "1x", rule: "must be a duration from 0 to 10 years"},
	{text: "30 s", rule: "must be a duration from 0 to 10 years"},
	{text: "", rule: "must be a duration from 0 to 10 years"},
}

// Durations checks that the settings of a duration of a program read the same texts with the same answers: as flags
// and as variables. The names are those of all such settings. Each call of define returns the flags anew. set, if not
// nil, is one more way to set them, such as a file.
func Durations(t *testing.T, define func() *pflag.FlagSet, names []string, set func(fs *pflag.FlagSet, name, value string) error) {
	t.Helper()
	var found []string
	define().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "duration" {
			found = append(found, f.Name)
		}
	})
	slices.Sort(found)
	slices.Sort(names)
	if !slices.Equal(found, names) {
		t.Errorf("settings of a duration are %v, want %v", found, names)
	}

	for _, name := range found {
		for _, d := range durations {
			fs := define()
			checkDuration(t, "--"+name, fs.Lookup(name), d.text, d.want, d.rule, fs.Parse([]string{"--" + name + "=" + d.text}))

			if set != nil {
				fs := define()
				checkDuration(t, name+" of the file", fs.Lookup(name), d.text, d.want, d.rule, set(fs, name, d.text))
			}

			// An empty variable counts as unset.
			fs = define()
			variable := program.Variable(name)
			if d.text != "" && slices.Contains(program.Variables(fs), variable) {
				err := program.Environ(fs, func(v string) (string, bool) { return d.text, v == variable })
				checkDuration(t, variable, fs.Lookup(name), d.text, d.want, d.rule, err)
			}
		}
	}
}

func checkDuration(t *testing.T, way string, f *pflag.Flag, text string, want time.Duration, rule string, err error) {
	t.Helper()
	switch {
	case rule == "" && (err != nil || f.Value.String() != want.String()):
		t.Errorf("%s %q: got %s and %v, want %s", way, text, f.Value, err, want)
	case rule != "" && (err == nil || !strings.Contains(err.Error(), rule)):
		t.Errorf("%s %q: got %s and %v, want an error with %q", way, text, f.Value, err, rule)
	}
}
