package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program/programtest"
)

func TestDurationsOfTheWorker(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "worker.yaml")
	var c *config
	define := func() *pflag.FlagSet {
		c = &config{file: file}
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		c.addFlags(fs)
		c.file = file
		return fs
	}

	of := []string{"wait", "lease", "drain-time", "until-empty", "kill-after", "request-timeout"}
	t.Run("flags, variables and keys of the file read the same texts", func(t *testing.T) {
		programtest.Durations(t, define, of, func(fs *pflag.FlagSet, name, value string) error {
			writeText(t, file, name+`: "`+value+`"`)
			_, err := c.fromFile(fs, map[string]bool{})
			return err
		})
	})

	t.Run("entries of queues read them too", func(t *testing.T) {
		programtest.Durations(t, func() *pflag.FlagSet {
			fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
			(&job{}).detailFlags(fs)
			return fs
		}, []string{"kill-after", "request-timeout"}, func(fs *pflag.FlagSet, name, value string) error {
			writeText(t, file, `queues: [{queue: a, `+name+`: "`+value+`"}]`)
			defined := define()
			entries, err := c.fromFile(defined, map[string]bool{})
			if err != nil {
				return err
			}

			c.job.Exec = "x"
			if name == "request-timeout" {
				c.job = job{HTTP: "https://example.com/"}
			}
			j, err := c.readEntry(entries[0])
			if err != nil {
				return err
			}
			return fs.Set(name, map[string]time.Duration{"kill-after": j.KillAfter, "request-timeout": j.RequestTimeout}[name].String())
		})
	})

	t.Run("a key without a value and the former name of request-timeout are refused", func(t *testing.T) {
		task := []string{"-q", "mail", "--http", "https://example.com/"}
		for _, test := range []struct {
			env        map[string]string
			file, want string
		}{
			{file: "lease:", want: "lease: must have a value"},
			{file: "timeout: 5s", want: "timeout: must be left out; the name of this setting is now request-timeout"},
			{file: "queues: [{queue: a, timeout: 5s}]", want: "queues[0]: timeout: must be left out; the name of this setting is now request-timeout"},
			{file: "queues: [{queue: a, request-timeout: }]", want: "queues[0]: request-timeout: must have a value"},
			{env: map[string]string{"PGQUEUE_WORKER_TIMEOUT": "5s"}, want: "PGQUEUE_WORKER_TIMEOUT: must be left out; the name of this setting is now request-timeout"},
		} {
			if _, err := load(t, task, test.env, test.file); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v %q: %v, want %q", test.env, test.file, err, test.want)
			}
		}

		c, err := load(t, task, map[string]string{"PGQUEUE_TIMEOUT": "1ms", "PGQUEUE_REQUEST_TIMEOUT": "7s"}, "")
		if err != nil || c.job.RequestTimeout.String() != "7s" {
			t.Errorf("request timeout %v, %v; want 7s, whatever PGQUEUE_TIMEOUT of the commands is", c.job.RequestTimeout, err)
		}

		if err := define().Parse([]string{"--timeout", "5s"}); err == nil || !strings.Contains(err.Error(), "request-timeout") {
			t.Errorf("--timeout: %v, want the present name", err)
		}
	})
}

func writeText(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
