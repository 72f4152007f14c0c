// Package factory gives commands their shared parts: streams, settings, a service and a printer.
package factory

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/config"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// DefaultTimeout bounds a call.
const DefaultTimeout = 30 * time.Second

// Settings are the flags that every command has.
type Settings struct {
	program.Server

	Timeout    time.Duration
	Output     string
	JQ         string
	Context    string
	ConfigPath string
}

// Factory exists once in a process.
type Factory struct {
	IO       *iostreams.IO
	Version  string
	Settings Settings
	Now      func() time.Time
	Lookup   func(string) (string, bool) // of environment variables
	Environ  func() []string             // all environment variables, as os.Environ; nil = none

	mu      sync.Mutex
	service program.Client
	close   func()
}

// New makes the factory of the process.
func New(version string) *Factory {
	return &Factory{
		IO: iostreams.System(os.LookupEnv), Version: version, Now: time.Now, Lookup: os.LookupEnv, Environ: os.Environ,
	}
}

// Flags defines the settings as flags that cmd and all below it have.
func (f *Factory) Flags(cmd *cobra.Command) {
	fs, s := cmd.PersistentFlags(), &f.Settings
	s.Server.Flags(fs)
	s.Timeout = DefaultTimeout
	program.TimeoutVar(fs, &s.Timeout, "timeout", "how long one call may take")
	fs.StringVarP(&s.Output, "output", "o", "", "`format`: table, wide, json, ndjson, yaml (default: table on a terminal, else json)")
	fs.StringVar(&s.JQ, "jq", "", "put a jq `expression` over the JSON")
	fs.StringVar(&s.Context, "context", "", "`name` of a context of the configuration")
	fs.StringVar(&s.ConfigPath, "config", "", "configuration `file` (default ~/.config/pgqueue/config.yaml)")
	program.FromEnvironment(fs, "timeout", "output")
}

// Path returns the path of the configuration file in use.
func (f *Factory) Path() string {
	if f.Settings.ConfigPath != "" {
		return f.Settings.ConfigPath
	}
	return config.DefaultPath(f.Lookup)
}

// Resolve fills in settings from the configuration file, where changed reports neither flag nor environment.
func (f *Factory) Resolve(changed func(flag string) bool) error {
	file, err := config.Load(f.Path())
	if err != nil {
		return err
	}

	c, err := file.Use(f.Settings.Context)
	if err != nil {
		return err
	}

	// A credential of the command line or the environment replaces that of the context as a whole.
	if changed("auth-token") || changed("auth-token-file") {
		c.Token, c.TokenFile = "", ""
	}

	for _, v := range []struct {
		flag string
		to   *string
		from string
	}{
		{"url", &f.Settings.URL, c.URL},
		{"namespace", &f.Settings.Namespace, c.Namespace},
		{"protocol", &f.Settings.Protocol, c.Protocol},
		{"auth-token", &f.Settings.Token, c.Token},
		{"auth-token-file", &f.Settings.TokenFile, c.TokenFile},
		{"ca-file", &f.Settings.TLS.CAFile, c.CAFile},
		{"cert-file", &f.Settings.TLS.CertFile, c.CertFile},
		{"key-file", &f.Settings.TLS.KeyFile, c.KeyFile},
		{"output", &f.Settings.Output, c.Output},
	} {
		if v.from != "" && !changed(v.flag) {
			*v.to = v.from
		}
	}

	return nil
}

// Service connects to the server, once.
func (f *Factory) Service() (queue.Service, error) { return f.connect() }

// Admin returns the operations on tokens and rights of the server. It connects as Service does.
func (f *Factory) Admin() (access.Admin, error) { return f.connect() }

func (f *Factory) connect() (program.Client, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.service != nil {
		return f.service, nil
	}

	var err error
	f.service, f.close, err = f.Settings.Dial(f.Settings.Timeout)

	return f.service, err
}

// Connected reports whether a command asked for the server.
func (f *Factory) Connected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.service != nil
}

// Close ends the connection to the server, if there is one.
func (f *Factory) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.close != nil {
		f.close()
	}
	f.service, f.close = nil, nil
}

// Printer returns a printer for the format of --output.
func (f *Factory) Printer() (*output.Printer, error) {
	return output.New(f.IO, f.Settings.Output, f.Settings.JQ)
}

// Both returns a service and a printer, which nearly every command needs. A wrong flag of the printer is an error before
// any call.
func (f *Factory) Both() (queue.Service, *output.Printer, error) {
	p, err := f.Printer()
	if err != nil {
		return nil, nil, err
	}
	svc, err := f.Service()
	return svc, p, err
}

// One makes the RunE of a command with few calls: it passes a service, a printer and a context with a deadline.
func (f *Factory) One(do func(ctx context.Context, svc queue.Service, p *output.Printer, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return f.Do(cmd, func(ctx context.Context, svc queue.Service, p *output.Printer) error { return do(ctx, svc, p, args) })
	}
}

// Do is One for a command that has examined its arguments and flags before.
func (f *Factory) Do(cmd *cobra.Command, do func(ctx context.Context, svc queue.Service, p *output.Printer) error) error {
	svc, p, err := f.Both()
	if err != nil {
		return err
	}

	ctx, cancel := f.Call(cmd.Context())
	defer cancel()

	return do(ctx, svc, p)
}

// Call bounds a call that is not meant to wait.
func (f *Factory) Call(ctx context.Context) (context.Context, context.CancelFunc) {
	// The client's own deadline comes first, and its error says more.
	return context.WithTimeout(ctx, f.Settings.Timeout+5*time.Second)
}
