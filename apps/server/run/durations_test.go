package run

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/internal/program/programtest"
)

func TestDurationsOfTheServer(t *testing.T) {
	t.Parallel()
	programtest.Durations(t, func() *pflag.FlagSet {
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		Flags(fs, &Config{})
		return fs
	}, []string{"wait", "idle-timeout", "stop-timeout", "drain-delay", "audit-retention", "session-ttl", "session-idle"}, nil)
}
