package queue

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

const (
	// MaxFailures bounds the failed tasks that a call groups: the newest of the queue.
	MaxFailures = 10_000
	// MaxFailureGroups bounds the groups of an answer: those with the most tasks.
	MaxFailureGroups = 1_000
	// maxSampleBytes bounds the error of a sample in bytes; a longer one is truncated as JSON.
	maxSampleBytes = 2_048
	// MaxFailuresExamined bounds the failed tasks that a store looks at for a FailureQuery with times.
	MaxFailuresExamined = 200_000
	// maxCachedErrorBytes bounds an error that a grouper remembers, to skip the rules for equal ones. 10,000 of them take 10 MiB.
	maxCachedErrorBytes = 1_024
)

// FailureQuery selects the failed tasks that a call groups. The zero value selects the newest of the queue.
type FailureQuery struct {
	// After and Before bound the time at which a task ended, both exclusive. Zero = no bound.
	After  time.Time
	Before time.Time
}

// Normalize checks q.
func (q FailureQuery) Normalize() (FailureQuery, error) {
	return q, cmp.Or(CheckTime("after", q.After), CheckTime("before", q.Before))
}

// Selects reports whether a task that ended at a time is among those of q.
func (q FailureQuery) Selects(at time.Time) bool {
	return (q.After.IsZero() || at.After(q.After)) && (q.Before.IsZero() || at.Before(q.Before))
}

// Failure is one failed task with its last error.
type Failure struct {
	Task  int64
	At    time.Time
	Error json.RawMessage
	// Kind and Fingerprint are those of the AttemptError.
	Kind        string
	Fingerprint string
}

// FailureGroup has the failed tasks with one fingerprint.
type FailureGroup struct {
	Fingerprint
	// Count is the number of tasks of the group. FirstAt and LastAt are the earliest and the latest end of a task.
	Count   int64
	FirstAt time.Time
	LastAt  time.Time
	// Sample is the newest task, without Kind and Fingerprint: those of the group stand for them.
	Sample Failure
	// IDs are those of all tasks of the group, newest first; at most MaxFailures.
	IDs []int64
}

// Failures are the newest failed tasks of a queue in groups, those with the most tasks first.
type Failures struct {
	Namespace string
	Queue     string
	// Version is the FingerprintVersion of the groups.
	Version int
	// Examined is the number of failed tasks, at most MaxFailures. More says that there are or may be older ones.
	Examined int64
	More     bool
	// Count is the number of groups, also of those that Groups leaves out.
	Count  int64
	Groups []FailureGroup
}

// FailureGrouper groups failed tasks, for stores. It is not safe for concurrent use.
type FailureGrouper struct {
	out      Failures
	groups   map[string]*FailureGroup // by ID
	byErrors map[string]*FailureGroup // by the bytes of short errors without a kind and a fingerprint of their own
}

// NewFailureGrouper returns a grouper without tasks.
func NewFailureGrouper(namespace, name string) *FailureGrouper {
	return &FailureGrouper{
		out:    Failures{Namespace: namespace, Queue: name, Version: FingerprintVersion},
		groups: map[string]*FailureGroup{}, byErrors: map[string]*FailureGroup{},
	}
}

// Add adds a task. Tasks must come newest first. It returns false for the task after MaxFailures, and only sets More.
func (g *FailureGrouper) Add(f Failure) bool {
	if g.out.Examined == MaxFailures {
		g.out.More = true
		return false
	}
	g.out.Examined++

	group := g.cachedGroup(&f)
	group.Count++
	group.IDs = append(group.IDs, f.Task)
	if f.At.Before(group.FirstAt) {
		group.FirstAt = f.At
	}
	if f.At.After(group.LastAt) {
		group.LastAt = f.At
	}
	return true
}

// AddMore says that there may be more tasks, behind the last one that the store has looked at.
func (g *FailureGrouper) AddMore() { g.out.More = true }

// cachedGroup is groupOf with a map of plain errors: a flood of failures often has one error, and the rules of fingerprints cost far
// more than a look-up.
func (g *FailureGrouper) cachedGroup(f *Failure) *FailureGroup {
	if !f.isPlain() || len(f.Error) > maxCachedErrorBytes {
		return g.groupOf(f)
	}
	group := g.byErrors[string(f.Error)]
	if group == nil {
		group = g.groupOf(f)
		g.byErrors[string(f.Error)] = group
	}
	return group
}

// isPlain reports whether the error alone gives the fingerprint of f.
func (f *Failure) isPlain() bool { return f.Kind == "" && f.Fingerprint == "" }

// fingerprint returns the one that the worker gave, or that of the error and its kind.
func (f *Failure) fingerprint() Fingerprint {
	made := FingerprintOfKind(f.Kind, f.Error)
	// A stored fingerprint may break the present limits. Then the error gives it.
	if named, err := made.WithName(f.Fingerprint); err == nil {
		return named
	}
	return made
}

// groupOf returns the group of the fingerprint of f, and creates it with f as its sample.
func (g *FailureGrouper) groupOf(f *Failure) *FailureGroup {
	fingerprint := f.fingerprint()
	group := g.groups[fingerprint.ID]
	if group == nil {
		// Without Kind and Fingerprint: WithoutErrors relies on that.
		sample := Failure{Task: f.Task, At: f.At, Error: slices.Clone(CleanJSON(f.Error, maxSampleBytes))}
		group = &FailureGroup{Fingerprint: fingerprint, FirstAt: f.At, LastAt: f.At, Sample: sample}
		g.groups[fingerprint.ID] = group
	}
	return group
}

// Result returns the groups, those with the most tasks first, and of these at most MaxFailureGroups.
func (g *FailureGrouper) Result() *Failures {
	g.out.Groups = make([]FailureGroup, 0, len(g.groups))
	for _, group := range g.groups {
		g.out.Groups = append(g.out.Groups, *group)
	}
	slices.SortFunc(g.out.Groups, func(a, b FailureGroup) int {
		// The sample's task is the last key, so that equal calls list equal groups in one order. An order by the id, which is a hash
		// of the error, would let an observer confirm a guess of the text.
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.LastAt.Compare(a.LastAt), cmp.Compare(b.Sample.Task, a.Sample.Task))
	})

	g.out.Count = int64(len(g.out.Groups))
	g.out.Groups = g.out.Groups[:min(len(g.out.Groups), MaxFailureGroups)]
	return &g.out
}

// Bytes returns about the number of bytes that f takes in an answer.
func (f *Failures) Bytes() int {
	const (
		frame = 256 // numbers, times and names of a group
		perID = 12  // ids of today have up to 11 digits
	)
	n := frame
	for _, g := range f.Groups {
		n += frame + len(g.Kind) + TextBytes(g.Message) + len(g.Sample.Error) + perID*len(g.IDs)
	}
	return n
}

// WithoutErrors returns f without the texts of errors, for callers that may not read them. Fingerprints go too: they are hashes,
// with which a reader could confirm a guess of the text. Numbers, times and ids stay.
func (f *Failures) WithoutErrors() *Failures {
	bare := *f
	bare.Groups = slices.Clone(f.Groups)
	for i := range bare.Groups {
		g := &bare.Groups[i]
		g.Fingerprint = Fingerprint{}
		g.Sample.Error = nil
	}
	return &bare
}
