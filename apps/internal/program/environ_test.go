package program_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

func TestAMisspeltVariableIsNamed(t *testing.T) {
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	fs.String("addr", "", "")
	fs.String("secret", "", "")
	program.FromEnvironment(fs)
	got := program.Unread(fs, []string{
		"PGQUEUE_ADRR=x", "PGQUEUE_ADDR=x", "PGQUEUE_WORKER_SECRET=x", "PGQUEUE_WORKER_SECRTE=x", "PGQUEUE_TASK_ID=1", "PGQUEUE_SERVICE_HOST=10.0.0.1",
		"PGQUEUE_PORT_8080_TCP_ADDR=10.0.0.1", "PGQUEUE_URL=x", "ADRR=x", "PGQUEUE_LISTEN=",
		"PGQUEUE_NAMESPACES=x", "PGQUEUE_URLS=x", "PGQUEUE_PORTS=1", "PGQUEUE_OUTPUT_=x", "PGQUEUE_TASKS=1", "PGQUEUE_SERVER_SERVICE_PORT_HTTP=80",
		"PGQUEUE_PORT=tcp://10.0.0.1:80", "PGQUEUE_SERVER_PORT=tcp://10.0.0.1:80", "PGQUEUE_NAMESPACE=x",
	}, "PGQUEUE_WORKER_")
	if want := []string{
		"PGQUEUE_ADRR", "PGQUEUE_LISTEN", "PGQUEUE_NAMESPACES", "PGQUEUE_OUTPUT_", "PGQUEUE_PORTS", "PGQUEUE_TASKS", "PGQUEUE_URLS", "PGQUEUE_WORKER_SECRTE",
	}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAVariableThatIsNoneOfItsKindIsRefused(t *testing.T) {
	for kind, define := range map[string]func(*pflag.FlagSet){
		"duration": func(fs *pflag.FlagSet) { fs.Duration("flag", time.Second, "") },
		"number":   func(fs *pflag.FlagSet) { fs.Int("flag", 1, "") },
		"switch":   func(fs *pflag.FlagSet) { fs.Bool("flag", true, "") },
	} {
		for _, value := range []string{"oops", "1.5x", "30 s", "0x", "-"} {
			fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
			define(fs)
			program.FromEnvironment(fs)
			err := program.Environ(fs, func(k string) (string, bool) { return value, k == "PGQUEUE_FLAG" })
			if err == nil || !strings.Contains(err.Error(), "PGQUEUE_FLAG") {
				t.Errorf("%s %q: %v", kind, value, err)
			}
		}
	}
}

// TestAFlagReplacesTheVariableOfAnother: a file of the command line wins over a secret of the environment, which is there for
// other programs. Two variables stay two settings.
func TestAFlagReplacesTheVariableOfAnother(t *testing.T) {
	env := map[string]string{"PGQUEUE_SECRET": "s", "PGQUEUE_SECRET_FILE": "other"}
	for _, line := range [][]string{{"--secret-file", "own"}, nil} {
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		secret, file := "", fs.String("secret-file", "", "")
		program.SecretVar(fs, &secret, "secret", "")
		program.FromEnvironment(fs)
		program.InPlaceOf(fs, "secret-file", "secret")
		if err := fs.Parse(line); err != nil {
			t.Fatal(err)
		}
		if err := program.Environ(fs, func(k string) (string, bool) { v, ok := env[k]; return v, ok }); err != nil {
			t.Fatal(err)
		}
		if given := len(line) > 0; given && (secret != "" || *file != "own") || !given && (secret != "s" || *file != "other") {
			t.Errorf("%v: %q %q", line, secret, *file)
		}
	}
}

func TestAListWhoseValuesHaveCommasIsOneALine(t *testing.T) {
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	header, secret := fs.StringArray("header", nil, ""), fs.StringArray("secret", nil, "")
	program.FromEnvironment(fs)
	program.OneALine(fs, "header")
	env := map[string]string{"PGQUEUE_HEADER": "Accept: a/b, c/d\nX-B: 1, Y: 2\n", "PGQUEUE_SECRET": "a, b"}
	if err := program.Environ(fs, func(k string) (string, bool) { v, ok := env[k]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(*header, []string{"Accept: a/b, c/d", "X-B: 1, Y: 2"}) || !slices.Equal(*secret, []string{"a", "b"}) {
		t.Errorf("%q %q", *header, *secret)
	}
}
