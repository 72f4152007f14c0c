package program

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

// AllowedHostFlag defines the flag of the allowed Host names of a port, with its environment variable.
func AllowedHostFlag(fs *pflag.FlagSet, names *[]string) {
	fs.StringSliceVar(names, "allowed-host", *names, "`names` of this port in the Host header beside localhost, as queue.example.com")
	FromEnvironment(fs, "allowed-host")
}

// NewPortServer returns a server for a port beside the API, with bounds for its requests. write bounds an answer; faults of
// connections are logged at level.
func NewPortServer(h http.Handler, write time.Duration, log *slog.Logger, level slog.Level) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: write, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), level),

		// "OPTIONS *" passes the checks too. The library would answer it by itself.
		DisableGeneralOptionsHandler: true,
	}
}

// PortChecks returns the checks for each request to the port at addr. The host of addr is an allowed name.
func PortChecks(addr string, cfg httpaccess.Config) (*httpaccess.Checks, error) {
	if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
		cfg.Hosts = append([]string{host}, cfg.Hosts...)
	}
	return httpaccess.New(cfg)
}
