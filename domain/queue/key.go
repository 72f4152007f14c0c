package queue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

// OnConflict says what a create does when a task of the queue has its key.
type OnConflict string

// The answers to a conflict.
const (
	// ConflictReturn answers with the task that has the key, or with KindKeyReused when its payload differs. It is the default.
	ConflictReturn OnConflict = "return"
	// ConflictReject refuses the create: KindAlreadyExists.
	ConflictReject OnConflict = "reject"
	// ConflictReplace creates the task and gives it the key. A waiting task that had the key ends cancelled; a retained one goes on.
	ConflictReplace OnConflict = "replace"
)

// UniqueUntil says how long a task keeps its key from a create.
type UniqueUntil string

// The ends of uniqueness.
const (
	// UniqueUntilStarted frees the key at the first start of the task.
	UniqueUntilStarted UniqueUntil = "started"
	// UniqueUntilFinished frees the key at the end of the task.
	UniqueUntilFinished UniqueUntil = "finished"
	// UniqueUntilPruned frees the key when the task is deleted. It is the default.
	UniqueUntilPruned UniqueUntil = "pruned"
)

// KeyRule is what a create asks for beside its key. Each create brings its own rule: it is not kept with the task. The zero value
// returns the task that has the key.
type KeyRule struct {
	OnConflict  OnConflict  // "" = return
	UniqueUntil UniqueUntil // "" = pruned
	// Debounce replaces Delay: the task waits this long, and each further create with its key replaces it and starts the wait
	// again. It implies ConflictReplace. 0 = none.
	Debounce time.Duration
	// DebounceMax bounds that wait, counted from the first create of the tasks that replaced one another; 0 = no bound.
	DebounceMax time.Duration
}

// normalizeKeyRule checks the rule of t and fills in what its debounce implies.
func (t NewTask) normalizeKeyRule() (NewTask, error) {
	r := &t.KeyRule
	if *r == (KeyRule{}) {
		return t, nil
	}

	switch r.OnConflict {
	case "", ConflictReturn, ConflictReject, ConflictReplace:
	default:
		return t, Invalid("on_conflict", fmt.Sprintf("must be one of return, reject, replace, got %.64q", r.OnConflict))
	}
	switch r.UniqueUntil {
	case "", UniqueUntilStarted, UniqueUntilFinished, UniqueUntilPruned:
	default:
		return t, Invalid("unique_until", fmt.Sprintf("must be one of started, finished, pruned, got %.64q", r.UniqueUntil))
	}
	if err := cmp.Or(CheckDuration("debounce", r.Debounce, 0), CheckDuration("debounce_max", r.DebounceMax, 0)); err != nil {
		return t, err
	}

	if t.Key == "" {
		return t, Invalid("key", "must be given with on_conflict, unique_until or debounce, got none")
	}
	return t.normalizeDebounce()
}

// normalizeDebounce checks what a debounce contradicts, and makes it a delay with ConflictReplace.
func (t NewTask) normalizeDebounce() (NewTask, error) {
	r := &t.KeyRule
	if r.DebounceMax > 0 && r.DebounceMax < r.Debounce || r.DebounceMax > 0 && r.Debounce == 0 {
		return t, Invalid("debounce_max", fmt.Sprintf("must be at least debounce, %v, got %v; raise it, or leave it out", r.Debounce, r.DebounceMax))
	}
	if r.Debounce == 0 {
		return t, nil
	}

	if !t.DelayedAt.IsZero() || t.Delay > 0 && t.Delay != r.Debounce {
		return t, Invalid("debounce", "must not come with delay or delayed_at; leave one out")
	}
	if r.OnConflict != "" && r.OnConflict != ConflictReplace {
		return t, Invalid("on_conflict", fmt.Sprintf("must be replace with debounce, got %.64q; leave it out", r.OnConflict))
	}
	r.OnConflict, t.Delay = ConflictReplace, r.Debounce
	return t, nil
}

// IsPlain reports whether r returns the task that has the key, whatever became of it.
func (r KeyRule) IsPlain() bool {
	return cmp.Or(r.OnConflict, ConflictReturn) == ConflictReturn && cmp.Or(r.UniqueUntil, UniqueUntilPruned) == UniqueUntilPruned
}

// IsRepeatable reports whether a second create of t, after the answer to the first was lost, makes nothing more: it has a key, and
// the answer is the task of that key. With another rule the second one could refuse, replace or debounce the task of the first.
func (t *TaskMeta) IsRepeatable() bool { return t.Key != "" && t.Debounce == 0 && t.IsPlain() }

// KeyAnswer is what a create does with a key that a task has.
type KeyAnswer uint8

// The answers.
const (
	KeyTake      KeyAnswer = iota // creates the task, which gets the key
	KeySupersede                  // the same, and the task that had the key ends cancelled
	KeyReturn                     // answers with the task that has the key
	KeyReject                     // refuses the create
)

// Answer returns what a create with the rule r does when a task with this life has its key.
func (r KeyRule) Answer(owner Life) KeyAnswer {
	switch {
	case r.UniqueUntil == UniqueUntilStarted && (owner.Attempt > 0 || owner.Status.Finished()),
		r.UniqueUntil == UniqueUntilFinished && owner.Status.Finished():
		return KeyTake
	case r.OnConflict == ConflictReplace && owner.Status.Waiting():
		return KeySupersede
	case r.OnConflict == ConflictReplace:
		return KeyTake
	case r.OnConflict == ConflictReject:
		return KeyReject
	default:
		return KeyReturn
	}
}

// DebouncedAt returns when a task starts that is created at now and replaces others, the first of which was created at since.
func (r KeyRule) DebouncedAt(now, since time.Time) time.Time {
	due := now.Add(r.Debounce)
	if last := since.Add(r.DebounceMax); r.DebounceMax > 0 && last.Before(due) {
		return last
	}
	return due
}

// RejectedKey is the error of a create with [ConflictReject] when the task id has its key.
func RejectedKey(name, key string, id int64) error {
	return &Error{
		Kind: KindAlreadyExists, Subject: "queue " + name, Field: "key",
		Msg: fmt.Sprintf("%.64q belongs to task %d; use a new key, or on_conflict return or replace", key, id),
	}
}

// Superseded is the error that a task keeps which the task by has replaced.
func Superseded(by int64) json.RawMessage {
	return ErrorJSON(fmt.Sprintf("superseded by task %d", by))
}

// NormalizeTasks normalizes tasks of one call; see [NewTask.Normalize]. The Field of its error names the task at fault. The tasks
// of a call that use a rule for their key must have different keys: they have no order among themselves.
func NormalizeTasks(tasks []NewTask, maxPayloadBytes int) ([]NewTask, error) {
	type slot struct{ queue, key string }
	keys, ruled := map[slot]bool{}, false
	out := make([]NewTask, len(tasks))
	for i, t := range tasks {
		var err error
		if out[i], err = t.Normalize(maxPayloadBytes); err != nil {
			return nil, At(fmt.Sprintf("tasks[%d]", i), err)
		}
		ruled = ruled || !out[i].IsPlain()
	}
	if !ruled {
		return out, nil
	}

	for i := range out {
		at := slot{out[i].Queue, out[i].Key}
		if keys[at] {
			return nil, At(fmt.Sprintf("tasks[%d]", i), Invalid("key", fmt.Sprintf(
				"must be there once in a call with on_conflict, unique_until or debounce, got %.64q again; use calls of their own", at.key)))
		}
		keys[at] = at.key != ""
	}
	return out, nil
}
