package program

import (
	"net"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

// AllowedHostFlag defines the flag of the names that requests to a port may be for, with its environment variable.
func AllowedHostFlag(fs *pflag.FlagSet, names *[]string) {
	fs.StringSliceVar(names, "allowed-host", *names, "`names` that a proxy on this machine passes on as Host, as queue.example.com")
	FromEnvironment(fs, "allowed-host")
}

// PortChecks makes the checks that each request to the port at addr passes first. The host of addr is one of its names.
func PortChecks(addr string, cfg httpaccess.Config) (*httpaccess.Checks, error) {
	if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
		cfg.Hosts = append([]string{host}, cfg.Hosts...)
	}
	return httpaccess.New(cfg)
}
