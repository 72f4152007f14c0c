// Package cmdutil has the parts of commands: arguments, flags of the queue's own kinds, input, completion.
package cmdutil

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Groups of commands in the help.
const (
	GroupTasks   = "tasks"
	GroupQueues  = "queues"
	GroupTickers = "tickers"
	GroupWatch   = "watch"
	GroupServer  = "server"
	GroupOther   = "other"
)

// InGroup puts commands into a group of the help.
func InGroup(group string, commands ...*cobra.Command) []*cobra.Command {
	for _, c := range commands {
		c.GroupID = group
	}
	return commands
}

// Usage returns the error of a wrong call of a command. Its exit code is 2.
func Usage(format string, args ...any) error { return queue.Invalid("", fmt.Sprintf(format, args...)) }

// Args checks the number of arguments; most < 0 = any number. flag, when given, is the flag that an excess argument may
// have been meant for.
func Args(least, most int, what string, flag ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return Usage("arguments: must have %s, got %d; see %s --help", what, len(args), cmd.CommandPath())
		case most >= 0 && len(args) > most && splitValues(cmd) != "":
			// JSON without quotes: the shell made arguments of all but its first part.
			return Usage("arguments: must be fewer, got an unexpected argument %.64q; the shell may have split the value of --%s: put it in quotes, or give @file or -", args[most], splitValues(cmd))
		case most >= 0 && len(args) > most && len(flag) > 0:
			return Usage("arguments: must be fewer, got an unexpected argument %.64q; did you mean %s %s?", args[most], flag[0], quoteInvisible(args[most]))
		case most >= 0 && len(args) > most:
			return Usage("arguments: must be fewer, got an unexpected argument %.64q; see %s --help", args[most], cmd.CommandPath())
		}

		return nil
	}
}

// splitValues returns the flag of cmd with an incomplete JSON value, as where a shell split it at a space; "" when there
// is none.
func splitValues(cmd *cobra.Command) (name string) {
	for _, flag := range []string{"payload", "result", "error", "progress"} {
		f := cmd.Flags().Lookup(flag)
		if f != nil && f.Changed && f.Value.String() != "-" && !strings.HasPrefix(f.Value.String(), "@") && !json.Valid([]byte(f.Value.String())) {
			name = flag
		}
	}
	return name
}

// quoteInvisible quotes s for a shell where it needs that.
func quoteInvisible(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[\w./:@%+,-]+$`)

// About completes cmd as a command on one named object: do reads or changes it, and the last function prints it.
func About[T any](f *factory.Factory, cmd *cobra.Command, what string, names Completer,
	do func(context.Context, queue.Service, string) (T, error), tell func(*output.Printer, T) error,
) *cobra.Command {
	cmd.Args = Args(1, 1, what)
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = First(names)
	}

	cmd.RunE = f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, args []string) error {
		v, err := do(ctx, svc, args[0])
		if err != nil {
			return err
		}

		return tell(p, v)
	})

	return cmd
}

// ListAll completes cmd as a command that lists all objects of a kind, or one page of them. view converts one for output,
// and none is the sentence about an empty list.
func ListAll[T, V any](f *factory.Factory, cmd *cobra.Command, list func(context.Context, queue.Service, queue.Page) ([]T, int64, error),
	view func(T) V, none string, columns func(now time.Time) []output.Column[V],
) *cobra.Command {
	var page queue.Page
	cmd.Args = Args(0, 0, "")
	cmd.RunE = f.One(func(ctx context.Context, svc queue.Service, p *output.Printer, _ []string) error {
		all, count, err := All(page, func(page queue.Page) ([]T, int64, error) { return list(ctx, svc, page) })
		if err != nil {
			return err
		}

		body := restapi.List[V]{Count: count, Body: restapi.Each(all, view)}
		if err := output.List(p, body, none, columns(f.Now())); err != nil {
			return err
		}
		ReportCut(p, page, len(all), count)
		return nil
	})

	Page(cmd.Flags(), &page, "all")
	return cmd
}

// Page defines the flags of a page of a list; limit describes the default of --limit.
func Page(fs *pflag.FlagSet, p *queue.Page, limit string) {
	fs.IntVar(&p.Offset, "offset", 0, "skip this many")
	LimitVar(fs, &p.Limit, "show at most this many, up to 1000 (default "+limit+")")
}

// LimitVar defines the flag --limit. It refuses 0, as REST does: 0 would silently mean the default.
func LimitVar(fs *pflag.FlagSet, to *int, usage string) { fs.Var((*limit)(to), "limit", usage) }

// limit is a number of 1 or more.
type limit int

// Set implements pflag.Value.
func (l *limit) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err == nil && n < 1 {
		err = fmt.Errorf("must be a whole number of 1 or more, got %.64q; leave it out for the default", s)
	}
	*l = limit(n)
	return err
}

func (l *limit) String() string { return strconv.Itoa(int(*l)) }

// Type implements pflag.Value.
func (*limit) Type() string { return "int" }

// All lists everything behind p.Offset page by page, or the one page of a given limit. It returns the number of all
// entries.
func All[T any](p queue.Page, list func(queue.Page) ([]T, int64, error)) (rows []T, count int64, err error) {
	// A given limit asks for one page. Without it a list of any length arrives in the largest pages.
	one := p.Limit != 0
	for {
		if !one {
			p.Limit = queue.MaxPage
		}

		page, n, err := list(p)
		if err != nil {
			return nil, 0, err
		}

		rows, count = append(rows, page...), n
		p.Offset += len(page)
		if one || len(page) == 0 || int64(p.Offset) >= n {
			return rows, count, nil
		}
	}
}

// ReportCut reports that a list of shown rows behind p.Offset is a part of count.
func ReportCut(p *output.Printer, page queue.Page, shown int, count int64) {
	if end := page.Offset + shown; int64(end) < count && shown > 0 {
		p.Cut(shown, output.Number(count), fmt.Sprintf("the next page: --offset %d --limit %d", end, page.Limit))
	}
}

// ID parses the id of a task.
func ID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id <= 0 {
		return 0, Usage("task id: must be a number above 0, got %q", s)
	}
	return id, nil
}

// IDs parses ids of tasks.
func IDs(args []string) ([]int64, error) {
	ids := make([]int64, len(args))
	for i, a := range args {
		var err error
		if ids[i], err = ID(a); err != nil {
			return nil, err
		}
	}

	return ids, nil
}

// maybe is a flag with a value of nil unless given.
type maybe[T any] struct {
	to    **T
	parse func(string) (T, error)
	kind  string
}

func (m maybe[T]) String() string {
	if m.to == nil || *m.to == nil {
		return ""
	}
	return fmt.Sprint(**m.to)
}

func (m maybe[T]) Type() string { return m.kind }

func (m maybe[T]) Set(s string) error {
	v, err := m.parse(s)
	if err != nil {
		return err
	}
	*m.to = &v
	return nil
}

// MaybeDuration defines a flag of a duration that changes nothing unless given.
func MaybeDuration(fs *pflag.FlagSet, to **time.Duration, name, usage string) {
	fs.Var(maybe[time.Duration]{to, program.ParseDuration, "duration"}, name, usage)
}

// MaybeInt defines a flag of a number that changes nothing unless given.
func MaybeInt(fs *pflag.FlagSet, to **int, name, usage string) {
	fs.Var(maybe[int]{to, strconv.Atoi, "int"}, name, usage)
}

// MaybeText defines a flag of a text that changes nothing unless given.
func MaybeText[T ~string](fs *pflag.FlagSet, to **T, name, usage string) {
	fs.Var(maybe[T]{to, func(s string) (T, error) { return T(s), nil }, "string"}, name, usage)
}

// MaybeFunc defines a flag of a text that parse reads and that changes nothing unless given.
func MaybeFunc(fs *pflag.FlagSet, to **string, name, usage string, parse func(string) (string, error)) {
	fs.Var(maybe[string]{to, parse, "string"}, name, usage)
}

// MaybeTexts defines a flag of texts between commas that changes nothing unless given; none = no text.
func MaybeTexts(fs *pflag.FlagSet, to **[]string, name, usage string) {
	fs.Var(maybe[[]string]{to, func(s string) ([]string, error) {
		if s == "none" {
			return []string{}, nil
		}
		texts := strings.Split(s, ",")
		for i := range texts {
			if texts[i] = strings.TrimSpace(texts[i]); texts[i] == "" {
				return nil, fmt.Errorf("must be texts between commas, got %.64q; write none for no text", s)
			}
		}
		return texts, nil
	}, "strings"}, name, usage)
}

// MaybeBool defines a switch that changes nothing unless given.
func MaybeBool(fs *pflag.FlagSet, to **bool, name, usage string) {
	fs.Var(maybe[bool]{to, strconv.ParseBool, "bool"}, name, usage)
	fs.Lookup(name).NoOptDefVal = "true"
}

// IfVersion defines the flag that makes a change depend on the version of its subject.
func IfVersion(cmd *cobra.Command, to *int64, what string) {
	cmd.Flags().Int64Var(to, "if-version", 0, "only if the "+what+" has this `version`")
}

// moment is a flag of a point in time.
type moment struct{ to *time.Time }

// Time defines a flag of a point in time: RFC 3339, or a date, or a date and a time, in the local zone.
func Time(fs *pflag.FlagSet, to *time.Time, name, usage string) { fs.Var(moment{to}, name, usage) }

func (m moment) String() string {
	if m.to == nil || m.to.IsZero() {
		return ""
	}
	return m.to.Format(time.RFC3339)
}

func (m moment) Set(s string) error {
	if t, err := time.Parse(time.RFC3339, s); err == nil && !t.IsZero() {
		// The zero time means an absent flag.
		*m.to = t
		return nil
	}

	// These forms have no zone, so they mean the local one.
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			*m.to = t
			return nil
		}
	}

	return fmt.Errorf("must be a time, got %.64q; write it as 2026-01-02T15:04:05Z", s)
}

func (moment) Type() string { return "time" }

// Input reads the value of a flag such as --payload: JSON itself, @file, or - for stdin.
func Input(f *factory.Factory, flag, s string) ([]byte, error) {
	var b []byte
	var err error
	switch name, isFile := strings.CutPrefix(s, "@"); {
	case s == "-" || isFile && name == "-":
		b, err = io.ReadAll(Text(f.IO.In))
	case isFile:
		b, err = readTextFile(name)
	default:
		return []byte(s), nil
	}

	if e, ok := errors.AsType[*queue.Error](err); ok {
		return nil, Usage("%s: %s", flag, e.Msg)
	}

	if err != nil {
		return nil, Usage("%s: must be a readable file: %v; check its name and mode", flag, err)
	}

	return b, nil
}

func readTextFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(Text(file))
}

// inQuotes is the remedy where a shell has removed quotes of JSON.
const inQuotes = "the shell may have taken quotes off, or left some; @file and - take the JSON as it is"

// JSON is Input that must be one JSON value; "" gives nil.
func JSON(f *factory.Factory, flag, s string) (json.RawMessage, error) {
	if s == "" {
		return nil, nil
	}

	b, err := Input(f, flag, s)
	if err != nil {
		return nil, err
	}

	b = bytes.TrimSpace(b)
	// The server limits the size; 1 GiB only bounds the check.
	if err := queue.CheckJSON(flag, b, 1<<30); err != nil {
		// A word without any mark of JSON is most likely a text without its quotes.
		if !strings.ContainsAny(s, `{["`) && s != "-" && s[0] != '@' {
			return nil, Usage(`%s: must be JSON, got %q; a text needs quotes: '"%s"'; @file reads a file, - reads stdin`, flag, s, s)
		}

		// No shell has touched the quotes in a file.
		if s == "-" || s[0] == '@' {
			return nil, err
		}

		return nil, Usage("%v; must be JSON as written; %s", err, inQuotes)
	}

	return b, nil
}

// Headers parses NAME=VALUE pairs.
func Headers(pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}

	h := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, Usage("--header: must be NAME=VALUE, got %q", p)
		}

		if _, twice := h[k]; twice {
			return nil, Usage("--header: must have each name once, got %q twice; leave one out", k)
		}

		h[k] = v
	}

	return h, nil
}

// Filter holds the flags of a filter of tasks.
type Filter struct {
	tasks    queue.TaskFilter // but for its statuses
	statuses []string
}

// Flags defines the flags of the filter on cmd.
func (x *Filter) Flags(f *factory.Factory, cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&x.tasks.Queue, "queue", "", "only tasks of this `queue`")
	fs.StringSliceVar(&x.statuses, "status", nil, "only tasks in these `statuses`: new, retry, retained, released, failed, expired, cancelled")
	fs.StringVar(&x.tasks.Worker, "worker", "", "only tasks this `worker` held last")
	Time(fs, &x.tasks.CreatedAfter, "created-after", "only tasks created after this `time`")
	Time(fs, &x.tasks.CreatedBefore, "created-before", "only tasks created before this `time`")
	Time(fs, &x.tasks.FinishedAfter, "finished-after", "only tasks that ended after this `time`")
	Time(fs, &x.tasks.FinishedBefore, "finished-before", "only tasks that ended before this `time`")
	fs.StringVar(&x.tasks.Key, "key", "", "only tasks with this idempotency `key`")
	fs.StringVar(&x.tasks.Text, "text", "", "only tasks with this `text` in their payload; needs --queue")
	_ = cmd.RegisterFlagCompletionFunc("queue", QueueNames(f))
	_ = cmd.RegisterFlagCompletionFunc("status", Statuses)
}

// Domain returns the filter of the service.
func (x *Filter) Domain() queue.TaskFilter {
	out := x.tasks
	out.Statuses = Words[queue.Status](x.statuses)
	return out
}

// Empty reports whether no flag of the filter is set.
func (x *Filter) Empty() bool { return x.Domain().IsEmpty() }

// Statuses completes statuses.
func Statuses(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return Words[string](queue.Statuses()), cobra.ShellCompDirectiveNoFileComp
}

// Words converts the texts of a flag to words of the domain, or back; nil for none.
func Words[To, From ~string](texts []From) (words []To) {
	for _, text := range texts {
		words = append(words, To(text))
	}
	return words
}

// completionTimeout is the longest wait of a shell for a completion.
const completionTimeout = 2 * time.Second
