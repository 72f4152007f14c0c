package embedded

import (
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
	// DefaultStartTimeout limits the time for initialisation, recovery and start together.
	DefaultStartTimeout = 60 * time.Second
	// DefaultStopTimeout limits a fast shutdown. After it the shutdown becomes an immediate one.
	DefaultStopTimeout = 15 * time.Second
)

// Option changes a setting of Start. Only the With functions of this package make options. Of two options for one
// setting the later one wins.
type Option func(*config)

// WithDataDir keeps the data in dir instead of DefaultDataDir. Start creates dir and its missing parents. An existing
// folder must be empty or made by this package. It excludes WithTemporary.
func WithDataDir(dir string) Option { return func(c *config) { c.dataDir = dir } }

// WithBinDir uses the server binaries of dir and searches nowhere else. The folder must hold postgres and initdb.
func WithBinDir(dir string) Option { return func(c *config) { c.binDir = dir } }

// WithPort listens on port (1 to 65535) of 127.0.0.1. Without it, or with 0, Start uses the port of the last run
// while that is free, else any free port.
func WithPort(port int) Option { return func(c *config) { c.port = port } }

// WithSetting starts PostgreSQL with a setting of its configuration, such as WithSetting("shared_buffers", "256MB").
// Tests that need no durability use WithSetting("fsync", "off"). The setting overrides the configuration files of the
// data folder. Start refuses the settings that it depends on: port, listen_addresses, unix_socket_directories, the
// paths of files and the destination of the log.
func WithSetting(name, value string) Option {
	return func(c *config) { c.settings[strings.ToLower(name)] = value }
}

// WithLogger sends the log of PostgreSQL and the messages of this package to logger. The severity LOG becomes debug,
// ERROR and FATAL become warn, PANIC becomes error. Without this option nothing is logged.
func WithLogger(logger *slog.Logger) Option { return func(c *config) { c.logger = logger } }

// WithTemporary keeps the data in a new folder below the system's folder for temporary files. Stop removes it. The
// option is for tests: a killed program leaves its folder behind.
func WithTemporary() Option { return func(c *config) { c.temporary = true } }

// WithStartTimeout limits the duration of Start without the download of binaries, which has its own limit of 10
// minutes. The default is DefaultStartTimeout.
func WithStartTimeout(d time.Duration) Option { return func(c *config) { c.startTimeout = d } }

// WithStopTimeout limits the fast shutdown in Stop. The limit also holds for a PostgreSQL that a killed program left
// behind. The default is DefaultStopTimeout.
func WithStopTimeout(d time.Duration) Option { return func(c *config) { c.stopTimeout = d } }

// WithFetcher replaces the download of binaries for a machine that has none. With nil, Start downloads nothing.
func WithFetcher(fetch Fetcher) Option { return func(c *config) { c.fetch = fetch } }

// config holds the values of all options. validate checks them.
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

	// places are the folders in which find searches for binaries. Tests set their own.
	places places
	// orphan lets PostgreSQL outlive its parent on systems that could end it. Tests use it to get a survivor on every
	// system.
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
			o(&c)
		}
	}

	return c, c.validate()
}

// reserved maps each setting that Start owns to the advice in the error.
var reserved = map[string]string{
	"port":                    "use WithPort",
	"listen_addresses":        "it listens on 127.0.0.1 alone",
	"unix_socket_directories": "it has no Unix socket",
	"data_directory":          "use WithDataDir",
	"config_file":             "it belongs to the data folder",
	"hba_file":                "it belongs to the data folder",
	"ident_file":              "it belongs to the data folder",
	"cluster_name":            "it marks the processes of one data folder",
	"external_pid_file":       "it belongs to the data folder",
	"logging_collector":       "use WithLogger",
	"log_destination":         "use WithLogger",
	"lc_messages":             "its messages are read in English",
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$`)

// invalidOption returns the error of a wrong option.
func invalidOption(name, rule string, args ...any) error {
	return fmt.Errorf("embedded: "+name+": "+rule, args...)
}

func (c *config) validate() error {
	switch {
	case c.temporary && c.dataDir != "":
		return invalidOption("WithTemporary", "must not come with WithDataDir; leave one out")
	case c.port < 0 || c.port > 65535:
		return invalidOption("WithPort", "must be a port from 0 to 65535, got %d", c.port)
	case c.startTimeout <= 0:
		return invalidOption("WithStartTimeout", "must be a duration above 0, got %v", c.startTimeout)
	case c.stopTimeout <= 0:
		return invalidOption("WithStopTimeout", "must be a duration above 0, got %v", c.stopTimeout)
	case c.logger == nil:
		return invalidOption("WithLogger", "must not be nil; leave the option out to log nothing")
	}

	// The caller gets the name of a bad setting before anything starts.
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		if why, ok := reserved[name]; ok {
			return invalidOption("setting "+name, "must be left out; %s", why)
		}
		if !settingName.MatchString(name) {
			return invalidOption("setting", "must be the name of a PostgreSQL setting, got %.64q; correct it", name)
		}
		if strings.ContainsAny(c.settings[name], "\x00\r\n") {
			return invalidOption("setting "+name, "must not contain a line break or NUL; remove it")
		}
	}
	return nil
}

// settingArgs returns the settings as arguments of postgres. The durability settings are always present. So a
// configuration file that was changed for a test cannot switch them off unnoticed.
func (c *config) settingArgs(mark string) []string {
	all := map[string]string{
		"fsync":              "on",
		"full_page_writes":   "on",
		"synchronous_commit": "on",
		"log_line_prefix":    "", // the logger adds the time
	}
	maps.Copy(all, c.settings)

	// These settings win over the caller's: the package relies on their values.
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
