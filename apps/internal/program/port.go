package program

import (
	"net"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

// AllowedHostFlag defines the flag of the allowed Host names of a port, with its environment variable.
func AllowedHostFlag(fs *pflag.FlagSet, names *[]string) {
	fs.StringSliceVar(names, "allowed-host", *names, "`names` of this port in the Host header beside localhost, as queue.example.com")
	FromEnvironment(fs, "allowed-host")
}

// PortChecks returns the checks for each request to the port at addr. The host of addr is an allowed name.
func PortChecks(addr string, cfg httpaccess.Config) (*httpaccess.Checks, error) {
	if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
		cfg.Hosts = append([]string{host}, cfg.Hosts...)
	}
	return httpaccess.New(cfg)
}
