package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// This file has the operation of the model on tasks that an open transaction replaces. Its queues are empty before and after each
// such operation, so the other operations find nothing there.

// replacedQueues are the queues of lockedReplace.
func replacedQueues() []queue.QueueMeta {
	return []queue.QueueMeta{
		{Name: "bulk"},
		{Name: "fifo", FlowMeta: queue.FlowMeta{Order: new(queue.OrderFIFO)}},
		{Name: "limited", FlowMeta: queue.FlowMeta{GroupConcurrency: new(1)}},
	}
}

// replaced is one operation of lockedReplace.
type replaced struct {
	*ModelRun
	name   string
	tasks  []*queue.Task  // in the order of the create
	ended  map[int64]bool // no longer waiting
	held   map[int64]queue.Release
	locked *queue.Task
}

// lockedReplace creates tasks with keys and replaces one of them in an open transaction. Only that task, and in a FIFO queue those
// behind it in its group, are held up: others start, can be cancelled and are replaced. All other calls go on. Behind the end of
// the transaction all tasks end, in the order of their groups.
func (m *ModelRun) lockedReplace() error {
	if m.h.LockReplaced == nil {
		return nil
	}
	metas := replacedQueues()
	r := &replaced{ModelRun: m, name: metas[m.choose.IntN(len(metas))].Name, ended: map[int64]bool{}, held: map[int64]queue.Release{}}
	if err := r.createKeyed(); err != nil {
		return err
	}
	if r.name == "limited" { // the others wait for their group from now on
		if err := r.retainAble(); err != nil {
			return err
		}
	}
	waiting := slices.DeleteFunc(slices.Clone(r.tasks), func(t *queue.Task) bool { return r.ended[t.ID] })
	if len(waiting) == 0 {
		return r.drain()
	}
	r.locked = waiting[m.choose.IntN(len(waiting))]
	commit := m.choose.IntN(2) == 0
	m.say("replace %s (task %d) of %s in an open transaction; commit %v", r.locked.Key, r.locked.ID, r.name, commit)
	end := m.h.LockReplaced(m.t, m.s, modelSpace, r.ruled(r.locked))
	open := true
	defer func() {
		if open {
			end(false)
		}
	}()

	if err := r.besideOpenReplace(waiting); err != nil {
		return fmt.Errorf("while task %d (%s) of %s is replaced in an open transaction: %w", r.locked.ID, r.locked.Key, r.name, err)
	}
	end(commit)
	open = false
	if commit {
		r.ended[r.locked.ID] = true
		found, err := m.s.CreateTasks(m.ctx, queue.Create{Namespace: modelSpace, Tasks: []queue.NewTask{r.plain(r.locked)}})
		if err == nil {
			err = found[0].Err
		}
		if err != nil || found[0].Task.ID == r.locked.ID || !found[0].Task.Replayed {
			return fmt.Errorf("key %s of the replaced task %d was answered by %+v, %w", r.locked.Key, r.locked.ID, found, err)
		}
		r.tasks = append(r.tasks, found[0].Task)
	}
	r.locked = nil
	return r.drain()
}

func (r *replaced) plain(t *queue.Task) queue.NewTask {
	return queue.NewTask{Queue: r.name, TaskMeta: queue.TaskMeta{Payload: queue.EmptyJSON, Key: t.Key, Group: t.Group}}
}

func (r *replaced) ruled(t *queue.Task) queue.NewTask {
	n := r.plain(t)
	n.KeyRule = queue.KeyRule{OnConflict: queue.ConflictReplace}
	return n
}

func (r *replaced) createKeyed() error {
	n := 64 // enough for rows of several tasks
	if r.name != "bulk" {
		n = 2 + r.choose.IntN(8)
	}
	batch := make([]queue.NewTask, n)
	for i := range batch {
		batch[i] = r.plain(&queue.Task{Key: fmt.Sprint("r", i)})
		if r.name != "bulk" {
			batch[i].Group = fmt.Sprint("g", r.choose.IntN(3))
		}
	}
	r.say("create %d with keys in %s", n, r.name)
	out, err := r.s.CreateTasks(r.ctx, queue.Create{Namespace: modelSpace, Tasks: batch})
	if err != nil {
		return err
	}
	for _, c := range out {
		if c.Err != nil || c.Task.Replayed {
			return fmt.Errorf("a new task with a key was answered by %+v, %w", c.Task, c.Err)
		}
		r.tasks = append(r.tasks, c.Task)
	}
	return nil
}

// besideOpenReplace makes the calls that the open transaction must not hold up.
func (r *replaced) besideOpenReplace(waiting []*queue.Task) error {
	if other := waiting[r.choose.IntN(len(waiting))]; other != r.locked && r.choose.IntN(2) == 0 {
		r.say("cancel %d", other.ID)
		done, err := r.s.CancelTasks(r.ctx, modelSpace, queue.Selection{IDs: []int64{other.ID}})
		if err != nil || done.Moved != 1 {
			return fmt.Errorf("a cancel of task %d was answered by %+v, %w", other.ID, done, err)
		}
		r.ended[other.ID] = true
	}
	if r.name == "limited" {
		if err := r.endHeld(); err != nil {
			return err
		}
	}
	if err := r.retainAble(); err != nil {
		return err
	}

	for _, do := range []func() error{r.retain, r.heartbeats, r.releases, r.callersCreate, r.callersRetain, r.callersRelease, r.rescue} {
		if r.choose.IntN(3) > 0 {
			continue
		}
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// retainAble retains all tasks of the queue that may start, and checks which ones these are.
func (r *replaced) retainAble() error {
	want := map[int64]bool{}
	busy := map[string]bool{}
	for _, t := range r.tasks {
		if _, held := r.held[t.ID]; held {
			busy[t.Group] = true
		}
	}
	for _, t := range r.tasks {
		switch {
		case r.ended[t.ID] || r.name != "bulk" && busy[t.Group]:
		case t == r.locked: // it holds up those behind it in a FIFO queue alone
			busy[t.Group] = busy[t.Group] || r.name == "fifo"
		default:
			busy[t.Group] = true
			want[t.ID] = true
		}
	}

	if err := r.promote(); err != nil {
		return err
	}
	for range 3 { // more markers than one retain reads
		out, err := r.s.RetainTasks(r.ctx, queue.Retain{
			Namespace: modelSpace, Queues: []string{r.name}, Requests: []queue.RetainShare{{Worker: "w", Limit: 100}},
		})
		if err != nil {
			return err
		}
		for _, t := range out[0] {
			if !want[t.ID] {
				return fmt.Errorf("task %d (%s, group %s) was retained, which could not be", t.ID, t.Key, t.Group)
			}
			delete(want, t.ID)
			r.ended[t.ID] = true
			r.held[t.ID] = releaseOf(t.ID, t.Lease.Token, queue.OutcomeSuccess)
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("the tasks %v of %s can start, and no retain gets them", want, r.name)
	}
	return nil
}

func (r *replaced) endHeld() error {
	var releases []queue.Release
	for _, t := range r.tasks {
		if rel, held := r.held[t.ID]; held {
			releases = append(releases, rel)
		}
	}
	clear(r.held)
	out, err := r.s.ReleaseTasks(r.ctx, modelSpace, releases)
	if err != nil {
		return err
	}
	for i := range out {
		if out[i].Err != nil {
			return fmt.Errorf("a release of %d: %w", releases[i].ID, out[i].Err)
		}
	}
	return nil
}

// drain works the tasks that are left, and deletes all of them.
func (r *replaced) drain() error {
	r.say("drain %s", r.name)
	for range len(r.tasks) + 1 {
		r.h.Advance(r.t, r.s, time.Second) // the planned looks at groups are due
		if err := r.retainAble(); err != nil {
			return err
		}
		if err := r.endHeld(); err != nil {
			return err
		}
	}
	ids := make([]int64, len(r.tasks))
	for i, t := range r.tasks {
		ids[i] = t.ID
		if !r.ended[t.ID] {
			return fmt.Errorf("task %d (%s) of %s waits for good", t.ID, t.Key, r.name)
		}
		r.lastID = max(r.lastID, t.ID)
	}
	done, err := r.s.DeleteTasks(r.ctx, modelSpace, queue.Selection{IDs: ids})
	if err == nil && done.Moved != int64(len(ids)) {
		err = fmt.Errorf("a delete of %d tasks of %s was answered by %+v", len(ids), r.name, done)
	}
	return err
}
