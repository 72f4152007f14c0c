package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/apps/worker/execrun"
	"github.com/pgqueue/pgqueue/apps/worker/httprun"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// config holds all settings.
type config struct {
	file        string
	server      program.Server
	database    program.Database
	background  bool
	maxPayload  int // bytes of a payload or a result, with a database of its own
	name        string
	concurrency int
	lease       time.Duration
	drain       time.Duration
	metricsAddr string
	hosts       []string // allowed Host names of requests to metricsAddr
	asks        bool     // check the readiness of a worker and end
	log         program.LogConfig

	queues []string
	job    job   // of the queues in the flags
	jobs   []job // all jobs, from the flags and the file
}

// job holds the settings of one queue. In the file it is an entry of queues.
type job struct {
	Queue        string        `yaml:"queue"`
	Exec         string        `yaml:"exec"`
	HTTP         string        `yaml:"http"`
	Concurrency  int           `yaml:"concurrency"`
	Dir          string        `yaml:"dir"`
	Env          []string      `yaml:"env"`
	KillAfter    time.Duration `yaml:"kill-after"`
	MaxOutput    int           `yaml:"max-output"`
	Timeout      time.Duration `yaml:"timeout"`
	Secret       []string      `yaml:"secret"`
	Header       []string      `yaml:"header"`
	AllowPrivate bool          `yaml:"allow-private"`
	Permanent    []string      `yaml:"permanent-status"`
}

func (c *config) flags(f *pflag.FlagSet) {
	f.StringVar(&c.file, "config", "", "YAML file of settings")
	f.StringArrayVarP(&c.queues, "queue", "q", nil, "queue to work (repeatable)")
	f.StringVar(&c.job.Exec, "exec", "", "command to run for each task: payload on stdin, result on stdout; exit 75 = try later, 100 = failed for good")
	f.StringVar(&c.job.HTTP, "http", "", "URL to post each task to: 2xx = done, 410 and 422 = failed for good, everything else = try later")

	c.server.Flags(f)
	c.database.Schema, c.database.Wait = program.DefaultSchema, program.DefaultWait
	c.database.Flags(f)
	f.BoolVar(&c.background, "background", true, "with --database-url, do background work too (promote, rescue, prune, ticks)")

	f.IntVar(&c.maxPayload, "max-payload", queue.DefaultMaxPayloadBytes, "with --database-url, most `bytes` of a payload or a result")
	f.StringVar(&c.name, "name", "", "name of this worker (default: host, process id and some letters)")
	f.IntVarP(&c.concurrency, "concurrency", "c", 10, "most tasks at once, over all queues without slots of their own")
	f.DurationVar(&c.lease, "lease", 0, "lease of retained tasks (default: the queue's)")
	f.DurationVar(&c.drain, "drain-time", worker.DefaultDrain, "time that running tasks have to end after SIGTERM")

	f.StringVar(&c.job.Dir, "dir", "", "exec: working directory")
	f.StringArrayVar(&c.job.Env, "env", nil, "exec: variable of the environment to pass (repeatable; default: all but PGQUEUE_…)")
	f.DurationVar(&c.job.KillAfter, "kill-after", execrun.DefaultKillAfter, "exec: time between SIGTERM and SIGKILL")
	f.IntVar(&c.job.MaxOutput, "max-output", execrun.DefaultMaxOutput, "most bytes kept of a command's output or an answer's body")
	f.DurationVar(&c.job.Timeout, "timeout", httprun.DefaultTimeout, "http: time for one request")
	f.StringArrayVar(&c.job.Secret, "secret", nil, "http: Standard Webhooks secret that signs, whsec_… (repeatable, to rotate)")
	f.StringArrayVar(&c.job.Header, "header", nil, "http: header to add, as 'Authorization: Bearer …' (repeatable)")
	f.StringSliceVar(&c.job.Permanent, "permanent-status", httprun.DefaultPermanent, "http: statuses that fail a task for good, as 400,404 or 4xx; none = no status does")
	f.BoolVar(&c.job.AllowPrivate, "allow-private", false, "http: allow addresses that are not public")

	f.StringVar(&c.metricsAddr, "metrics-addr", "", "address of /livez, /readyz and /metrics, as :9090 (default: none)")
	program.AllowedHostFlag(f, &c.hosts)
	program.LogFlags(f, &c.log)
	program.MayBeEmpty(f, "metrics-addr")
	// Its values contain commas.
	program.OneALine(f, "header")
	program.FromEnvironment(f)
	program.CheckFlag(f, &c.asks, "worker", "metrics-addr")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "database" {
			// database is the short form of database-url.
			name = "database-url"
		}
		return pflag.NormalizedName(name)
	})
}

// ownPrefix begins the worker's own environment variables, which override those of all programs.
const ownPrefix = program.Prefix + "WORKER_"

// load fills in the settings without a flag from the environment and the file, and checks all settings.
func (c *config) load(f *pflag.FlagSet, getenv func(string) (string, bool)) error {
	if err := program.RefuseEmpty(f, nil); err != nil {
		return err
	}

	// A URL in the command line overrides a database in a variable or the file. Two settings of the same rank are an
	// error, because a choice between them would be a guess.
	server, database := f.Changed("url"), f.Changed("database-url")
	given := changedFlags(f) // a variable may be meant for several workers; a flag and a key of the file are for this one
	if err := program.Environ(f, getenv, ownPrefix); err != nil {
		return err
	}
	entries, err := c.fromFile(f, given)
	if err != nil {
		return err
	}
	if err := program.RefuseEmpty(f, nil); err != nil {
		return err
	}
	switch both := f.Changed("url") && c.database.URL != ""; {
	case both && server == database:
		return errors.New("--url: must not come with --database-url; leave one out")
	case both && server:
		c.database.URL = ""
	}

	if err := c.database.Validate(); err != nil {
		return err
	}

	if err := c.server.Validate(); err != nil {
		return err
	}

	for _, name := range c.queues {
		j := c.job
		j.Queue = name
		c.jobs = append(c.jobs, j)
	}

	for i, e := range entries {
		j, err := c.entry(e)
		if err != nil {
			return fmt.Errorf("%s: queues[%d]: %w", c.file, i, err)
		}
		c.jobs = append(c.jobs, j)
	}

	if err := c.check(); err != nil {
		return err
	}
	return c.checkEffects(given)
}

func changedFlags(f *pflag.FlagSet) map[string]bool {
	changed := map[string]bool{}
	f.Visit(func(fl *pflag.Flag) { changed[fl.Name] = true })
	return changed
}

// The settings that have an effect on one kind of job alone.
var (
	execSettings = []string{"dir", "env", "kill-after"}
	httpSettings = []string{"timeout", "secret", "header", "permanent-status", "allow-private"}
)

// checkEffects refuses settings that were given and have no effect, and limits that contradict each other.
func (c *config) checkEffects(given map[string]bool) error {
	if c.asks {
		return nil
	}

	byKind := []struct {
		kind     string
		settings []string
		of       func(job) bool
	}{
		{"--exec", execSettings, func(j job) bool { return j.Exec != "" }},
		{"--http", httpSettings, func(j job) bool { return j.HTTP != "" }},
	}
	for _, kind := range byKind {
		if slices.ContainsFunc(c.jobs, kind.of) {
			continue
		}
		for _, name := range kind.settings {
			if given[name] {
				return queue.Invalid(name, "must come with "+kind.kind+", got a queue without it; leave it out")
			}
		}
	}

	if c.database.URL == "" {
		if given["max-payload"] {
			return queue.Invalid("max-payload", "must come with --database-url; a server has a limit of its own")
		}
		return nil
	}
	for _, j := range c.jobs {
		if j.MaxOutput > c.maxPayload {
			return queue.Invalid("max-output", fmt.Sprintf("must be at most --max-payload (%d), got %d", c.maxPayload, j.MaxOutput))
		}
	}
	return nil
}

// fromFile sets flags from the file, adds their names to given, and returns its entries of queues.
func (c *config) fromFile(f *pflag.FlagSet, given map[string]bool) ([]map[string]yaml.Node, error) {
	if c.file == "" {
		return nil, nil
	}

	b, err := os.ReadFile(c.file)
	if err != nil {
		return nil, err
	}

	var doc struct {
		Queues   []map[string]yaml.Node `yaml:"queues"`
		Settings map[string]yaml.Node   `yaml:",inline"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", c.file, err)
	}

	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: must be one YAML document; leave out what is behind ---", c.file)
	}

	spelt := map[string]string{}
	for key, node := range doc.Settings {
		fl := f.Lookup(dashed(key))
		if fl == nil || fl.Name == "config" || fl.Name == "help" || fl.Name == "check" || fl.Name == "version" {
			return nil, fmt.Errorf("%s: must have settings of --help alone, got %.64q", c.file, key)
		}

		if other, twice := spelt[fl.Name]; twice {
			return nil, fmt.Errorf("%s: must have each setting once, got %s and %s; leave one out", c.file, min(key, other), max(key, other))
		}

		spelt[fl.Name] = key
		given[fl.Name] = true
		if fl.Changed {
			continue
		}

		if list, ok := fl.Value.(pflag.SliceValue); ok {
			var values []string
			if node.Kind == yaml.ScalarNode {
				values = []string{node.Value}
			} else if err := node.Decode(&values); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", c.file, key, err)
			}

			err = list.Replace(values)
		} else if node.Kind != yaml.ScalarNode {
			err = errors.New("must be one value, got a list or a map")
		} else {
			err = fl.Value.Set(node.Value)
		}

		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", c.file, key, err)
		}

		fl.Changed = true
	}

	return doc.Queues, nil
}

func dashed(key string) string { return strings.ReplaceAll(key, "_", "-") }

// entry returns the job of an entry of queues. Missing settings are those of the other queues.
func (c *config) entry(e map[string]yaml.Node) (job, error) {
	j := c.job
	named := map[string]yaml.Node{}
	for key, node := range e {
		named[dashed(key)] = node
	}

	if _, ok := named["exec"]; ok {
		j.HTTP = ""
	}

	if _, ok := named["http"]; ok {
		j.Exec = ""
	}

	b, err := yaml.Marshal(named)
	if err != nil {
		return j, err
	}

	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&j); err != nil && !errors.Is(err, io.EOF) {
		return j, err
	}

	other, kind := httpSettings, "http"
	if j.HTTP != "" {
		other, kind = execSettings, "exec"
	}
	for _, name := range other {
		if _, ok := named[name]; ok {
			return j, queue.Invalid(name, "must be in an entry with "+kind+"; leave it out")
		}
	}
	return j, nil
}

func (c *config) check() error {
	if c.asks {
		return nil
	}

	if len(c.jobs) == 0 {
		return errors.New("--queue: must be a queue, got none; name one as --queue mail")
	}

	if err := queue.CheckInt("concurrency", c.concurrency, 1, queue.MaxConcurrency); err != nil {
		return err
	}

	seen := map[string]bool{}
	for _, j := range c.jobs {
		name, err := queue.QueueName(j.Queue)
		if err != nil {
			return err
		}

		if seen[name] {
			return fmt.Errorf("--queue: must name each queue once, got %s twice", name)
		}

		seen[name] = true
		if err := queue.CheckInt("concurrency", j.Concurrency, 0, queue.MaxConcurrency); err != nil {
			return fmt.Errorf("queue %s: %w", name, err)
		}

		if (j.Exec == "") == (j.HTTP == "") {
			return fmt.Errorf("queue %s: must have either --exec or --http; give one of them", name)
		}
	}

	if c.drain < 0 {
		return queue.Invalid("drain-time", fmt.Sprintf("must be a duration of 0 or more, got %v", c.drain))
	}

	return nil
}

// killAfter returns the longest time of all commands between SIGTERM and SIGKILL.
func (c *config) killAfter() (most time.Duration) {
	for _, j := range c.jobs {
		most = max(most, j.KillAfter)
	}
	return most
}

// handler returns the handler for the queue of j.
func (c *config) handler(j job, version string, slots int) (worker.Handler, func(), error) {
	if j.Exec != "" {
		command := &execrun.Command{Line: j.Exec, Dir: j.Dir, Env: j.Env, KillAfter: j.KillAfter, MaxOutput: j.MaxOutput}
		if c.database.URL == "" {
			command.Server, command.Protocol = c.server.URL, c.server.Protocol
		}

		if err := command.Check(); err != nil {
			return nil, nil, fmt.Errorf("queue %s: %w", j.Queue, err)
		}

		return command, func() {}, nil
	}

	header := http.Header{}
	for _, h := range j.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, nil, fmt.Errorf("queue %s: header: must be 'Name: value', got %.64q", j.Queue, h)
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}

	p, err := httprun.New(httprun.Config{
		URL: j.HTTP, Secrets: j.Secret, Header: header, Timeout: j.Timeout, MaxResponse: j.MaxOutput,
		Connections: slots, AllowPrivate: j.AllowPrivate, Permanent: j.Permanent, UserAgent: "pgqueue-worker/" + version,
	})
	if errors.Is(err, httprun.ErrPrivate) {
		err = fmt.Errorf("%w; --allow-private allows it", err)
	}

	if err != nil {
		return nil, nil, fmt.Errorf("queue %s: %w", j.Queue, err)
	}

	return p, p.Close, nil
}
