package queuetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// This file has the operations of callers that call at once through the manager's batchers, and of callers beside rows
// that an open transaction has locked. The order of two callers is unknown. So the callers of one operation send calls
// that are interchangeable for all later choices of the model: equal seeds still give equal runs.

// callAtOnce runs n calls concurrently and waits for all of them.
func callAtOnce(n int, call func(i int)) {
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() { call(i) })
	}
	calls.Wait()
}

// anyTask returns a new task for a queue: of any priority and delay, half of the time with a key.
func (m *ModelRun) anyTask(name string) queue.NewTask {
	meta := queue.TaskMeta{
		Payload:  fmt.Appendf(nil, `%d`, m.choose.IntN(2)),
		Priority: int16(m.choose.IntN(3)),
		Delay:    time.Duration(max(0, m.choose.IntN(6)-3)) * 2 * time.Hour,
	}
	if m.choose.IntN(2) == 0 {
		meta.Key = fmt.Sprintf("k%d", m.choose.IntN(6))
	}
	return queue.NewTask{Queue: name, TaskMeta: meta}
}

// callersCreate makes several callers create one task each; the tasks differ in their payloads alone. Of the callers
// with one key the first gets a new task, and the others get that task or KindKeyReused.
func (m *ModelRun) callersCreate() error {
	if m.shared == nil {
		return nil
	}
	tasks := slices.Repeat([]queue.NewTask{m.anyTask(m.anyQueue())}, 2+m.choose.IntN(5))
	for i := range tasks {
		tasks[i].Payload = fmt.Appendf(nil, `%d`, m.choose.IntN(2))
	}
	m.say("%d callers create %+v", len(tasks), tasks[0])
	m.now = m.clock()
	answers := make([]createAnswer, len(tasks))
	callAtOnce(len(tasks), func(i int) { answers[i] = m.createShared(tasks[i]) })
	return m.createdByCallers(answers)
}

// createAnswer is the task that a caller created and its answer.
type createAnswer struct {
	asked  queue.NewTask
	answer queue.Created
}

// place orders answers: new tasks by their ids, then answers about tasks that existed before.
func (a createAnswer) place() int64 {
	if a.answer.Err != nil || a.answer.Task.Replayed {
		return 1 << 62
	}
	return a.answer.Task.ID
}

func (m *ModelRun) createShared(t queue.NewTask) createAnswer {
	task, err := m.shared.CreateTask(m.ctx, t.Queue, t.TaskMeta)
	return createAnswer{t, queue.Created{Task: task, Err: err}}
}

// createdByCallers records the answers of callers in the model, in the order of creation.
func (m *ModelRun) createdByCallers(answers []createAnswer) error {
	slices.SortStableFunc(answers, func(a, b createAnswer) int { return cmp.Compare(a.place(), b.place()) })
	for _, a := range answers {
		if err := m.created(a.asked, a.answer); err != nil {
			return fmt.Errorf("a caller's create: %w", err)
		}
	}
	return nil
}

// callersRetain makes several callers retain from the same queues. Together they get as many tasks as one call would.
func (m *ModelRun) callersRetain() error {
	if m.shared == nil {
		return nil
	}
	names := []string{m.anyQueue()}
	if m.choose.IntN(2) == 0 {
		names = nil
	}
	limits, total := make([]int, 2+m.choose.IntN(3)), 0
	for i := range limits {
		limits[i] = 1 + m.choose.IntN(3)
		total += limits[i]
	}
	m.say("callers retain %v from %v", limits, names)
	if err := m.promote(); err != nil {
		return err
	}

	m.now = m.clock()
	answers, errs := make([][]*queue.Task, len(limits)), make([]error, len(limits))
	callAtOnce(len(limits), func(i int) {
		answers[i], errs[i] = m.shared.RetainTasks(m.ctx, queue.RetainRequest{Worker: fmt.Sprint("w", i), Queues: names, Limit: limits[i]})
	})
	for i, got := range answers {
		if errs[i] != nil || len(got) > limits[i] {
			return fmt.Errorf("a caller's retain of %d got %d tasks: %w", limits[i], len(got), errs[i])
		}
	}
	got := slices.Concat(answers...)
	slices.SortFunc(got, func(a, b *queue.Task) int { return cmp.Compare(a.Lease.Token, b.Lease.Token) })
	return m.retained(got, total, names, modelLease)
}

// callersRelease makes several callers release one task each: some the same task, and some with a token of no lease.
// Releases of one task have one outcome. The first caller ends the lease, the others get its answer again.
func (m *ModelRun) callersRelease() error {
	if m.shared == nil {
		return nil
	}
	var asked []queue.Release
	for _, t := range m.some(2+m.choose.IntN(5), m.wasHeld) {
		r := releaseOf(t.id, m.token+1, queue.OutcomeSuccess)
		switch at := slices.IndexFunc(asked, func(r queue.Release) bool { return r.ID == t.id }); {
		case at >= 0:
			r = asked[at]
		case t.status == queue.StatusRetained && m.choose.IntN(8) > 0:
			r = releaseOf(t.id, t.token, outcomes()[m.choose.IntN(len(outcomes()))])
		}
		asked = append(asked, r)
	}
	m.say("callers release %+v", asked)
	m.now = m.clock()
	answers := make([]queue.Released, len(asked))
	callAtOnce(len(asked), func(i int) {
		out, err := m.shared.ReleaseTasks(m.ctx, []queue.Release{asked[i]})
		if len(out) == 1 {
			answers[i] = out[0]
		}
		answers[i].Err = cmp.Or(err, answers[i].Err)
	})

	for _, repeats := range []bool{false, true} {
		for i, r := range asked {
			if answers[i].Replayed != repeats {
				continue
			}
			if err := m.releasedByCaller(r, answers[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *ModelRun) releasedByCaller(r queue.Release, answer queue.Released) error {
	t := m.tasks[r.ID]
	switch {
	case r.Token != t.token:
		if !errors.Is(answer.Err, queue.ErrLeaseLost) {
			return fmt.Errorf("a caller's stale release of %d was answered by %+v", r.ID, answer)
		}
		return nil
	case answer.Replayed && t.status == queue.StatusRetained:
		return fmt.Errorf("no caller's release of %d ended its lease: %+v", r.ID, answer)
	}
	if err := m.released(t, r.Outcome, answer); err != nil {
		return fmt.Errorf("a caller: %w", err)
	}
	return nil
}

// lockedKey lets another transaction lock a key, creates beside it, and rolls the transaction back. A batch without a
// wait creates the tasks of other keys. Callers get their answers while one of them waits for the key; then that caller
// gets its task.
func (m *ModelRun) lockedKey() error {
	name := m.anyQueue()
	taken := m.anyTask(name)
	taken.Key = fmt.Sprintf("k%d", m.choose.IntN(6))
	m.now = m.clock()
	if there := m.tasks[m.queues[name].keys[taken.Key]]; m.h.LockKey == nil || there != nil && !m.past(there) {
		return nil
	}
	unlock := sync.OnceFunc(m.h.LockKey(m.t, m.s, modelSpace, name, taken.Key))
	defer unlock()

	batch := []queue.NewTask{taken, m.anyTask(name), taken, m.anyTask(name)}
	m.say("create %+v while key %s is locked", batch, taken.Key)
	out, err := m.s.CreateTasks(queue.WithoutWait(m.ctx), queue.Create{Namespace: modelSpace, Tasks: batch})
	if err != nil {
		return err
	}
	for i, c := range out {
		switch {
		case batch[i].Key != taken.Key:
			err = m.created(batch[i], c)
		case !queue.IsLocked(c.Err):
			err = fmt.Errorf("a create with key %s, which is locked, was answered by %+v", taken.Key, c)
		}
		if err != nil {
			return err
		}
	}

	waiting := make(chan createAnswer, 1)
	go func() { waiting <- m.createShared(taken) }()
	free := m.anyTask(name)
	free.Key = ""
	m.say("callers create %+v while key %s is locked", free, taken.Key)
	answers := make([]createAnswer, 3)
	callAtOnce(len(answers), func(i int) { answers[i] = m.createShared(free) })
	unlock()
	last := <-waiting
	if err := m.createdByCallers(slices.Concat(answers, []createAnswer{last})); err != nil {
		return err
	}
	// The id of this task may be before or behind those of the others. Equal seeds give equal runs only without it.
	t := m.tasks[last.answer.Task.ID]
	if t == nil || t.key != taken.Key {
		return fmt.Errorf("the key that was rolled back has another task: %+v", last.answer.Task)
	}
	m.forget(t)
	gone, err := m.s.DeleteTasks(m.ctx, modelSpace, queue.Selection{IDs: []int64{t.id}})
	return errors.Join(err, gone.Errs[t.id])
}

// lockedQueue lets another transaction lock the row of a queue while calls of all kinds run: no call needs that row.
// The model reads the clock through another queue.
func (m *ModelRun) lockedQueue() error {
	if m.h.LockQueue == nil {
		return nil
	}
	name := m.names[1+m.choose.IntN(len(m.names)-1)]
	m.say("lock queue %s", name)
	unlock := m.h.LockQueue(m.t, m.s, modelSpace, name)
	defer unlock()
	for _, do := range []func() error{
		m.create, m.retain, m.heartbeats, m.releases, m.callersCreate, m.callersRetain, m.callers, m.callersRelease, m.cancel, m.rescue,
	} {
		if m.choose.IntN(2) == 0 {
			continue
		}
		if err := do(); err != nil {
			return fmt.Errorf("while the row of queue %s is locked: %w", name, err)
		}
	}
	return nil
}
