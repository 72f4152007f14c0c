package program

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// LogConfig configures the log.
type LogConfig struct {
	LevelName string
	Format    string
	// Level may be changed while the program runs. Logger makes it.
	Level *slog.LevelVar
}

// LogFlags defines the flags of the log.
func LogFlags(fs *pflag.FlagSet, c *LogConfig) {
	fs.StringVar(&c.LevelName, "log-level", "info", "`level` of the log: debug, info, warn or error; SIGUSR1 turns debug on and off")
	fs.StringVar(&c.Format, "log-format", "auto", "`format` of the log: text, json, or auto: text on a terminal")
	FromEnvironment(fs, "log-level", "log-format")
}

// toggleDebug turns the debug lines on or off.
func toggleDebug(level *slog.LevelVar) {
	switch {
	case level == nil:
	case level.Level() == slog.LevelDebug:
		level.Set(slog.LevelInfo)
	default:
		level.Set(slog.LevelDebug)
	}
}

// Logger returns the log that c describes, written to w.
func (c *LogConfig) Logger(w io.Writer, terminal bool) (*slog.Logger, error) {
	c.Level = new(slog.LevelVar)
	if err := c.Level.UnmarshalText([]byte(c.LevelName)); err != nil {
		return nil, queue.Invalid("log-level", fmt.Sprintf("must be debug, info, warn or error, got %.64q", c.LevelName))
	}
	if terminal {
		w = TerminalWriter(w)
	}
	switch {
	case c.Format == "json", c.Format == "auto" && !terminal:
		return telemetry.NewLogger(w, telemetry.LogOptions{JSON: true, Level: c.Level}), nil
	case c.Format == "text", c.Format == "auto":
		return telemetry.NewLogger(w, telemetry.LogOptions{Level: c.Level}), nil
	}
	return nil, queue.Invalid("log-format", fmt.Sprintf("must be auto, text or json, got %.64q", c.Format))
}
