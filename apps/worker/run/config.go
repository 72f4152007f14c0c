package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
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
	maxTasks    int
	idle        time.Duration // until-empty, if ends
	ends        bool
	metricsAddr string
	// traceParent makes the creator of a task the parent of its handler's span.
	traceParent bool
	// profilesAddr serves profiles; "" = none.
	profilesAddr string
	hosts        []string // allowed Host names of requests to metricsAddr
	asks         bool     // check the readiness of a worker and end
	log          program.LogConfig

	queues []string
	job    job   // of the queues in the flags
	jobs   []job // all jobs, from the flags and the file
}

// job holds the settings of one queue: those of the flags, or an entry of queues in the file.
type job struct {
	Queue          string
	Exec           string
	HTTP           string
	Concurrency    int
	Dir            string
	Env            []string
	KillAfter      time.Duration
	ExitKinds      []string
	MaxOutput      int
	RequestTimeout time.Duration
	Secret         []string
	Header         []string
	AllowPrivate   bool
	Permanent      []string
	HoldUp         string
}

// targetFlags defines the flags of the command or the URL of j. The present values are the defaults, here and below.
func (j *job) targetFlags(f *pflag.FlagSet) {
	f.StringVar(&j.Exec, "exec", j.Exec, "command to run for each task: payload on stdin, result on stdout; exit 75 = try later, 100 = failed for good")
	f.StringVar(&j.HTTP, "http", j.HTTP, "URL to post each task to: 2xx = done, 410 and 422 = failed for good, everything else = try later")
}

// detailFlags defines the other flags of j.
func (j *job) detailFlags(f *pflag.FlagSet) {
	f.StringVar(&j.Dir, "dir", j.Dir, "exec: working directory")
	f.StringArrayVar(&j.Env, "env", j.Env, "exec: variable of the environment to pass (repeatable; default: all but PGQUEUE_…)")
	program.TimeoutVar(f, &j.KillAfter, "kill-after", "exec: time between SIGTERM and SIGKILL")
	f.StringSliceVar(&j.ExitKinds, "exit-kinds", j.ExitKinds, "exec: kinds of errors by exit code, as 65=invalid_input,75=unavailable")
	f.IntVar(&j.MaxOutput, "max-output", j.MaxOutput, "most bytes kept of a command's output or an answer's body")
	program.TimeoutVar(f, &j.RequestTimeout, "request-timeout", "http: time for one request")
	f.StringArrayVar(&j.Secret, "secret", j.Secret, "http: Standard Webhooks secret that signs, whsec_… (repeatable, to rotate)")
	f.StringArrayVar(&j.Header, "header", j.Header, "http: header to add, as 'Authorization: Bearer …' (repeatable)")
	f.StringSliceVar(&j.Permanent, "permanent-status", j.Permanent, "http: statuses that fail a task for good, as 400,404 or 4xx; none = no status does")
	f.StringVar(&j.HoldUp, "hold-up", j.HoldUp, "http: tasks that wait after 429 or 503 with Retry-After: task, group, queue, or auto = the group if there is one, else the queue")
	f.BoolVar(&j.AllowPrivate, "allow-private", j.AllowPrivate, "http: allow addresses that are not public")
}

func (c *config) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.file, "config", "", "YAML file of settings")
	f.StringArrayVarP(&c.queues, "queue", "q", nil, "queue to work (repeatable)")
	c.job = job{
		KillAfter: execrun.DefaultKillAfter, MaxOutput: execrun.DefaultMaxOutput, RequestTimeout: httprun.DefaultTimeout, Permanent: httprun.DefaultPermanent,
		HoldUp: httprun.ScopeAuto,
	}
	c.job.targetFlags(f)

	c.server.Flags(f)
	c.database.Schema, c.database.Wait = program.DefaultSchema, program.DefaultWait
	c.database.Flags(f)
	f.BoolVar(&c.background, "background", true, "with --database-url, do background work too (promote, rescue, prune, ticks)")

	f.IntVar(&c.maxPayload, "max-payload", queue.DefaultMaxPayloadBytes, "with --database-url, most `bytes` of a payload or a result")
	f.StringVar(&c.name, "name", "", "name of this worker (default: host, process id and some letters)")
	f.IntVarP(&c.concurrency, "concurrency", "c", 10, "most tasks at once, over all queues without slots of their own")
	program.DurationVar(f, &c.lease, "lease", "lease of retained tasks (default: the queue's)")
	c.drain = worker.DefaultDrain
	program.DurationVar(f, &c.drain, "drain-time", "time that running tasks have to end after SIGTERM")

	f.IntVar(&c.maxTasks, "max-tasks", 0, "end after so many tasks; a task that is handed back does not count (default: no limit)")
	program.DurationVar(f, &c.idle, "until-empty", "end when the queues had no task to take for that long, as 30s; without a value at once (default: never)")
	f.Lookup("until-empty").NoOptDefVal = "0s"

	c.job.detailFlags(f)

	f.BoolVar(&c.traceParent, "trace-parent", false, "make the span that created a task the parent of its handler's span, in place of a link")
	program.ProfilesFlag(f, &c.profilesAddr)
	f.StringVar(&c.metricsAddr, "metrics-addr", "", "address of /livez, /readyz and /metrics, as :9090 (default: none)")
	program.AllowedHostFlag(f, &c.hosts)
	program.LogFlags(f, &c.log)
	program.MayBeEmpty(f, "metrics-addr")
	// Its values contain commas.
	program.OneALine(f, "header")
	program.FromEnvironment(f)
	program.CheckFlag(f, &c.asks, "worker", "metrics-addr")
	refuseFormerNames(f)
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "database" {
			// database is the short form of database-url.
			name = "database-url"
		}
		return pflag.NormalizedName(name)
	})
}

// refuseFormerNames refuses timeout, which is the time of one call in the commands. The worker does not read
// PGQUEUE_TIMEOUT, because commands may share its environment.
func refuseFormerNames(f *pflag.FlagSet) {
	program.Renamed(f, "timeout", "request-timeout", ownPrefix+"TIMEOUT")
}

// ownPrefix begins the worker's own environment variables, which override those of all programs.
const ownPrefix = program.Prefix + "WORKER_"

// loadSettings fills in the settings without a flag from the environment and the file, and checks all settings.
func (c *config) loadSettings(f *pflag.FlagSet, getenv func(string) (string, bool)) error {
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

	c.ends = f.Changed("until-empty")
	if err := c.listJobs(entries); err != nil {
		return err
	}
	if err := c.checkSettings(); err != nil {
		return err
	}
	return c.checkEffects(given)
}

// listJobs fills jobs from the queues of the flags and the entries of the file.
func (c *config) listJobs(entries []map[string]yaml.Node) error {
	for _, name := range c.queues {
		j := c.job
		j.Queue = name
		c.jobs = append(c.jobs, j)
	}

	for i, e := range entries {
		j, err := c.readEntry(e)
		if err != nil {
			return fmt.Errorf("%s: queues[%d]: %w", c.file, i, err)
		}
		c.jobs = append(c.jobs, j)
	}
	return nil
}

func changedFlags(f *pflag.FlagSet) map[string]bool {
	changed := map[string]bool{}
	f.Visit(func(fl *pflag.Flag) { changed[fl.Name] = true })
	return changed
}

// The settings that have an effect on one kind of job alone.
var (
	execSettings = []string{"dir", "env", "kill-after", "exit-kinds"}
	httpSettings = []string{"request-timeout", "secret", "header", "permanent-status", "allow-private"}
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
	// A setting without an effect is most likely meant for another queue.
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
	// The store would refuse a longer result, after the work is done.
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
		return nil, fmt.Errorf("%s: must be one YAML document, got more; leave out the text from the second --- on", c.file)
	}

	if err := setFromFile(f, doc.Settings, given); err != nil {
		return nil, fmt.Errorf("%s: %w", c.file, err)
	}

	return doc.Queues, nil
}

// setFromFile sets the flags that are not set from the settings of a file, or of one entry of it. It adds their names
// to given.
func setFromFile(f *pflag.FlagSet, settings map[string]yaml.Node, given map[string]bool) error {
	spelt := map[string]string{}
	for key, node := range settings {
		fl := f.Lookup(dashed(key))
		if fl == nil || slices.Contains(commandLineOnly, fl.Name) {
			return fmt.Errorf("must have settings of --help alone, got %.64q; correct its name", key)
		}

		if other, twice := spelt[fl.Name]; twice {
			return fmt.Errorf("must have each setting once, got %s and %s; leave one out", min(key, other), max(key, other))
		}

		spelt[fl.Name] = key
		given[fl.Name] = true
		if fl.Changed {
			continue
		}

		if err := setFromNode(f, fl, &node); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}

	return nil
}

// commandLineOnly are the flags that no file may set.
var commandLineOnly = []string{"config", "help", "check", "version"}

// setFromNode sets a flag from the value of a key.
func setFromNode(f *pflag.FlagSet, fl *pflag.Flag, node *yaml.Node) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}

	list, isList := fl.Value.(pflag.SliceValue)
	switch {
	case node.Tag == "!!null":
		return errors.New("must have a value, got none; leave the setting out for the default")
	case isList && node.Kind != yaml.ScalarNode:
		var values []string
		if err := node.Decode(&values); err != nil {
			return err
		}

		fl.Changed = true
		return list.Replace(values)
	case isList:
		fl.Changed = true
		return list.Replace([]string{node.Value})
	case node.Kind != yaml.ScalarNode:
		return errors.New("must be one value, got a list or a map; give one value")
	default:
		return program.SetFlag(f, fl, node.Value)
	}
}

func dashed(key string) string { return strings.ReplaceAll(key, "_", "-") }

// readEntry returns the job of an entry of queues. Missing settings are those of the other queues.
func (c *config) readEntry(e map[string]yaml.Node) (job, error) {
	j := c.job
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.StringVar(&j.Queue, "queue", "", "")
	f.IntVar(&j.Concurrency, "concurrency", 0, "")
	j.targetFlags(f)
	j.detailFlags(f)
	refuseFormerNames(f)
	given := map[string]bool{}
	if err := setFromFile(f, e, given); err != nil {
		return j, err
	}

	// An entry with a target of its own does not have that of the other queues.
	if given["exec"] && !given["http"] {
		j.HTTP = ""
	}
	if given["http"] && !given["exec"] {
		j.Exec = ""
	}

	// other are the settings of the kind that this entry is not.
	other, kind := httpSettings, "http"
	if j.HTTP != "" {
		other, kind = execSettings, "exec"
	}
	for _, name := range other {
		if given[name] {
			return j, queue.Invalid(name, "must be in an entry with "+kind+", got one without it; leave it out")
		}
	}
	return j, nil
}

func (c *config) checkSettings() error {
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
			return fmt.Errorf("queue %s: must have either --exec or --http, got both or none; give one of them", name)
		}
	}

	if err := queue.CheckInt("max-tasks", c.maxTasks, 0, math.MaxInt32); err != nil {
		return err
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
		kinds, err := execrun.ParseKinds(j.ExitKinds)
		if err != nil {
			return nil, nil, fmt.Errorf("queue %s: %w", j.Queue, err)
		}
		command := &execrun.Command{Line: j.Exec, Dir: j.Dir, Env: j.Env, KillAfter: j.KillAfter, MaxOutput: j.MaxOutput, Kinds: kinds}
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
			return nil, nil, fmt.Errorf("queue %s: header: must be 'Name: value', got %d bytes in another form; write the name and a colon first", j.Queue, len(h))
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}

	p, err := httprun.New(httprun.Config{
		URL: j.HTTP, Secrets: j.Secret, Header: header, Timeout: j.RequestTimeout, MaxResponse: j.MaxOutput,
		Connections: slots, AllowPrivate: j.AllowPrivate, Permanent: j.Permanent, HoldUp: j.HoldUp, UserAgent: "pgqueue-worker/" + version,
	})
	if errors.Is(err, httprun.ErrPrivate) {
		err = fmt.Errorf("%w; --allow-private allows it", err)
	}

	if err != nil {
		return nil, nil, fmt.Errorf("queue %s: %w", j.Queue, err)
	}

	return p, p.Close, nil
}
