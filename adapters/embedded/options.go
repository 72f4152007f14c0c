package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Defaults of the options.
const (
	// DefaultStartTimeout bounds initialising, recovering and starting.
	DefaultStartTimeout = 60 * time.Second
	// DefaultStopTimeout bounds a fast shutdown before it becomes an
	// immediate one.
	DefaultStopTimeout = 15 * time.Second
)

// Option changes how Start works. The With functions of this package make
// them; there are no others. Of two options that set the same thing the later
// one holds.
type Option interface {
	apply(*config)
}

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

// WithDataDir keeps the data in dir instead of the default folder
// (DefaultDataDir). It is created when missing, its parents too; an existing
// one must be empty or made by this package. Not together with WithTemporary.
func WithDataDir(dir string) Option {
	return optionFunc(func(c *config) { c.dataDir = dir })
}

// WithBinDir uses the server binaries of dir, which holds postgres and initdb,
// and searches nowhere else.
func WithBinDir(dir string) Option {
	return optionFunc(func(c *config) { c.binDir = dir })
}

// WithPort listens on port (1 to 65535) of 127.0.0.1. Without it, or with 0,
// the port of the last run is used again if it is free, else any free one.
func WithPort(port int) Option {
	return optionFunc(func(c *config) { c.port = port })
}

// WithSetting starts PostgreSQL with a setting of its configuration, such as
// WithSetting("shared_buffers", "256MB") or, for tests that need no safety,
// WithSetting("fsync", "off"). It is stronger than the configuration files in
// the data folder. Settings this package depends on (port, listen_addresses,
// unix_socket_directories, the places of files, where the log goes) are refused.
func WithSetting(name, value string) Option {
	return optionFunc(func(c *config) { c.settings[strings.ToLower(name)] = value })
}

// WithLogger sends what PostgreSQL logs, and what this package does about it,
// to logger: PostgreSQL's LOG at debug, its ERROR and FATAL at warn, its PANIC
// at error. Without it nothing is logged.
func WithLogger(logger *slog.Logger) Option {
	return optionFunc(func(c *config) { c.logger = logger })
}

// WithTemporary keeps the data in a new folder under the system's folder for
// temporary files and removes it on Stop. It is for tests. A program that is
// killed leaves the folder behind.
func WithTemporary() Option {
	return optionFunc(func(c *config) { c.temporary = true })
}

// WithStartTimeout bounds Start, but for a fetch of binaries, which has a
// limit of its own (10 minutes). The default is DefaultStartTimeout.
func WithStartTimeout(d time.Duration) Option {
	return optionFunc(func(c *config) { c.startTimeout = d })
}

// WithStopTimeout bounds the fast shutdown of Stop, and that of a PostgreSQL
// left over from a killed program. The default is DefaultStopTimeout.
func WithStopTimeout(d time.Duration) Option {
	return optionFunc(func(c *config) { c.stopTimeout = d })
}

// WithFetcher replaces how binaries are got when there are none on this
// machine. With nil none are ever fetched.
func WithFetcher(fetch Fetcher) Option {
	return optionFunc(func(c *config) { c.fetch = fetch })
}

// config is what the options say, checked by validate.
type config struct {
	dataDir      string
	binDir       string
	port         int
	settings     map[string]string
	logger       *slog.Logger
	temporary    bool
	startTimeout time.Duration
	stopTimeout  time.Duration
	fetch        Fetcher

	// places are where binaries are searched; tests give their own.
	places places
	// orphan lets PostgreSQL survive its parent on systems that could end it,
	// so that tests can have a survivor everywhere.
	orphan bool
}

func newConfig(opts []Option) (config, error) {
	c := config{
		settings:     map[string]string{},
		logger:       slog.New(slog.DiscardHandler),
		startTimeout: DefaultStartTimeout,
		stopTimeout:  DefaultStopTimeout,
		fetch:        FetchBinaries,
		places:       defaultPlaces(),
	}
	for _, o := range opts {
		if o != nil {
			o.apply(&c)
		}
	}
	return c, c.validate()
}

// reserved are the settings that Start owns.
var reserved = map[string]string{
	"port":                    "use WithPort",
	"listen_addresses":        "it listens on 127.0.0.1 alone",
	"unix_socket_directories": "it has no Unix socket",
	"data_directory":          "use WithDataDir",
	"config_file":             "it belongs to the data folder",
	"hba_file":                "it belongs to the data folder",
	"ident_file":              "it belongs to the data folder",
	"cluster_name":            "it tells the processes of one data folder from others",
	"external_pid_file":       "it belongs to the data folder",
	"logging_collector":       "use WithLogger",
	"log_destination":         "use WithLogger",
	"lc_messages":             "its messages are read in English",
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$`)

func (c *config) validate() error {
	switch {
	case c.temporary && c.dataDir != "":
		return errors.New("embedded: WithTemporary and WithDataDir exclude each other: use one")
	case c.port < 0 || c.port > 65535:
		return fmt.Errorf("embedded: port %d is not between 0 and 65535", c.port)
	case c.startTimeout <= 0:
		return fmt.Errorf("embedded: start timeout %v is not positive", c.startTimeout)
	case c.stopTimeout <= 0:
		return fmt.Errorf("embedded: stop timeout %v is not positive", c.stopTimeout)
	case c.logger == nil:
		return errors.New("embedded: WithLogger(nil): leave the option out to log nothing")
	}
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		if why, ok := reserved[name]; ok {
			return fmt.Errorf("embedded: setting %s cannot be set: %s", name, why)
		}
		if !settingName.MatchString(name) {
			return fmt.Errorf("embedded: %q is no name of a PostgreSQL setting", name)
		}
		if strings.ContainsAny(c.settings[name], "\x00\r\n") {
			return fmt.Errorf("embedded: the value of setting %s holds a line break or a NUL", name)
		}
	}
	return nil
}

// settingArgs gives the settings as arguments of postgres. Durability is said
// aloud, so that a configuration file changed for a test cannot take it away
// unseen.
func (c *config) settingArgs(mark string) []string {
	all := map[string]string{
		"fsync":              "on",
		"full_page_writes":   "on",
		"synchronous_commit": "on",
		"log_line_prefix":    "", // the logger has the time
	}
	maps.Copy(all, c.settings)
	all["listen_addresses"] = host
	all["unix_socket_directories"] = ""
	all["cluster_name"] = mark
	all["logging_collector"] = "off"
	all["log_destination"] = "stderr"
	all["lc_messages"] = "C"
	var args []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	return args
}
