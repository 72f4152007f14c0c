package queuetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// This file has the operation of the model on releases that pause a group or a queue, and on dead letters. Its queues are empty
// before and after each such operation, so the other operations find nothing there.

const (
	pausedQueue = "paused"
	deadLetters = "letters"
	deadKind    = "gone" // failures of this kind are not retried
)

// pausedQueues are the queues of releasePauses.
func pausedQueues() []queue.QueueMeta {
	policy := queue.FailurePolicyMeta{NonRetryable: new([]string{deadKind}), DeadLetter: new(deadLetters)}
	return []queue.QueueMeta{
		{Name: deadLetters, Retention: new(modelStay)},
		{
			Name: pausedQueue, Retries: new(1), RetryDelay: new(time.Duration(0)), Lease: new(modelLease), Retention: new(modelStay),
			FailurePolicyMeta: policy,
		},
	}
}

// pausedTask is a task of releasePauses.
type pausedTask struct {
	id       int64
	group    string
	payload  string
	token    int64 // of the present lease; 0 = not held
	attempt  int
	retries  int
	due      time.Time
	asked    bool // its cancellation is requested
	finished bool
}

// pauseRun is one operation of releasePauses.
type pauseRun struct {
	*ModelRun
	tasks   []*pausedTask
	paused  time.Time // end of the pause of the queue
	groups  map[string]time.Time
	letters map[int64]string // kinds of the failures with dead letters that are still to be found
	found   []int64          // ids of all dead letters
}

// releasePauses creates tasks with groups and ends them over several rounds: in one call or by callers at once, some twice, some
// beside a locked row, and with all scopes. A pause lasts until the end of its longest delay. Each task that fails for good leaves one
// dead letter.
func (m *ModelRun) releasePauses() error {
	r := &pauseRun{ModelRun: m, groups: map[string]time.Time{}, letters: map[int64]string{}}
	if err := r.createGrouped(); err != nil {
		return err
	}
	for round := range 8 {
		if err := r.doRound(round > 3); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return r.deleteAll()
}

func (r *pauseRun) createGrouped() error {
	batch := make([]queue.NewTask, 2+r.choose.IntN(8))
	for i := range batch {
		batch[i] = queue.NewTask{Queue: pausedQueue, TaskMeta: queue.TaskMeta{Payload: fmt.Appendf(nil, `{"n":%d}`, i)}}
		if g := r.choose.IntN(4); g > 0 {
			batch[i].Group = fmt.Sprint("g", g)
		}
	}
	r.say("create %d in %s", len(batch), pausedQueue)
	out, err := r.s.CreateTasks(r.ctx, queue.Create{Namespace: modelSpace, Tasks: batch})
	if err != nil {
		return err
	}
	for i, c := range out {
		if c.Err != nil {
			return c.Err
		}
		r.tasks = append(r.tasks, &pausedTask{id: c.Task.ID, group: batch[i].Group, payload: string(batch[i].Payload), retries: 1})
	}
	return nil
}

// doRound retains all that may start, releases some or all of it, reads the dead letters and lets time pass. The last rounds end
// each task with a success, without a pause.
func (r *pauseRun) doRound(last bool) error {
	if err := r.retainStartable(); err != nil {
		return err
	}
	if err := r.cancelSome(); err != nil {
		return err
	}
	if err := r.releaseSome(last); err != nil {
		return err
	}
	if err := r.readLetters(); err != nil {
		return err
	}

	// The longest delay is 3 hours. Leases of 5 hours lapse when they are left for two rounds.
	r.h.Advance(r.t, r.s, 4*time.Hour-30*time.Minute*time.Duration(r.choose.IntN(5)))
	if err := r.rescue(); err != nil {
		return err
	}
	return r.readRescued()
}

// retainStartable retains each task that is due in a group and a queue without a pause, and no other one.
func (r *pauseRun) retainStartable() error {
	if err := r.promote(); err != nil {
		return err
	}
	r.now = r.clock()
	want := map[int64]*pausedTask{}
	for _, t := range r.tasks {
		if t.token == 0 && !t.finished && !t.due.After(r.now) && !r.paused.After(r.now) && !r.groups[t.group].After(r.now) {
			want[t.id] = t
		}
	}

	for range 3 {
		out, err := r.s.RetainTasks(r.ctx, queue.Retain{
			Namespace: modelSpace, Queues: []string{pausedQueue}, Requests: []queue.RetainShare{{Worker: "w", Limit: 100}},
		})
		if err != nil {
			return err
		}
		for _, got := range out[0] {
			t := want[got.ID]
			if t == nil {
				return fmt.Errorf("task %d (group %q) of %s was retained, which could not be", got.ID, got.Group, pausedQueue)
			}
			delete(want, got.ID)
			t.token = got.Lease.Token
			if t.attempt++; got.Attempt != t.attempt || got.Retries != t.retries {
				return fmt.Errorf("task %d was retained as %+v, want attempt %d and retries %d", t.id, got, t.attempt, t.retries)
			}
		}
	}
	if len(want) > 0 {
		return fmt.Errorf("%d tasks of %s can start, and no retain gets them", len(want), pausedQueue)
	}
	return nil
}

func (r *pauseRun) held() (held []*pausedTask) {
	for _, t := range r.tasks {
		if t.token != 0 {
			held = append(held, t)
		}
	}
	return held
}

func (r *pauseRun) cancelSome() error {
	for _, t := range r.held() {
		if r.choose.IntN(8) > 0 {
			continue
		}
		r.say("cancel %d", t.id)
		done, err := r.s.CancelTasks(r.ctx, modelSpace, queue.Selection{IDs: []int64{t.id}})
		if err != nil || done.Moved != 1 {
			return fmt.Errorf("a cancel of %d, which is held, was answered by %+v, %w", t.id, done, err)
		}
		t.asked = true
	}
	return nil
}

// anyRelease returns a release of t: of any outcome, delay, scope and kind.
func (r *pauseRun) anyRelease(t *pausedTask) queue.Release {
	rel := releaseOf(t.id, t.token, outcomes()[r.choose.IntN(len(outcomes()))])
	rel.Quiet = r.choose.IntN(2) == 0
	switch rel.Outcome {
	case queue.OutcomeFailure:
		rel.ErrorKind = []string{"", "busy", deadKind}[r.choose.IntN(3)]
		rel.Delay = time.Duration(r.choose.IntN(4)) * time.Hour
	case queue.OutcomePermanent:
		rel.ErrorKind = []string{"", "busy"}[r.choose.IntN(2)]
	case queue.OutcomeSnooze:
		rel.Delay = time.Duration(1+r.choose.IntN(3)) * time.Hour
	case queue.OutcomeSuccess, queue.OutcomeHandBack:
	}
	if rel.Delay > 0 {
		rel.Scope = []queue.Scope{queue.ScopeTask, queue.ScopeGroup, queue.ScopeGroup, queue.ScopeQueue}[r.choose.IntN(4)]
	}
	return rel
}

// releaseSome releases held tasks, some twice in one call. At times the rows of one task, or of the queue, are locked meanwhile.
func (r *pauseRun) releaseSome(all bool) error {
	var releases []queue.Release
	for _, t := range r.held() {
		switch {
		case all:
			releases = append(releases, releaseOf(t.id, t.token, queue.OutcomeSuccess))
		case r.choose.IntN(5) > 0:
			releases = append(releases, r.anyRelease(t))
		}
	}
	if len(releases) == 0 {
		return nil
	}
	if r.choose.IntN(2) == 0 {
		releases = append(releases, releases[r.choose.IntN(len(releases))])
	}

	switch way := r.choose.IntN(4); {
	case all || way == 0:
		return r.releaseInOne(releases)
	case way == 1 && r.shared != nil:
		return r.releaseByCallers(releases)
	case way == 2 && r.h.LockQueue != nil:
		return r.releaseBesideQueue(releases)
	case way == 3 && r.h.Lock != nil:
		return r.releaseBesideTask(releases)
	}
	return r.releaseInOne(releases)
}

func (r *pauseRun) releaseInOne(releases []queue.Release) error {
	r.say("releases %+v", releases)
	r.now = r.clock()
	out, err := r.s.ReleaseTasks(r.ctx, modelSpace, releases)
	if err != nil {
		return err
	}
	return r.recordAll(releases, out, func(queue.Release) bool { return false })
}

// releaseByCallers makes one caller for each release. Their order is unknown, and no result depends on it.
func (r *pauseRun) releaseByCallers(releases []queue.Release) error {
	r.say("callers release %+v", releases)
	r.now = r.clock()
	out := make([]queue.Released, len(releases))
	callAtOnce(len(releases), func(i int) {
		answers, err := r.shared.ReleaseTasks(r.ctx, []queue.Release{releases[i]})
		if len(answers) == 1 {
			out[i] = answers[0]
		}
		out[i].Err = cmp.Or(err, out[i].Err)
	})

	order := make([]int, len(out)) // the caller that ended a lease before its repeats
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareBool(out[a].Replayed, out[b].Replayed) })
	for _, i := range order {
		if err := r.record(releases[i], out[i]); err != nil {
			return fmt.Errorf("a caller: %w", err)
		}
	}
	return nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// releaseBesideQueue releases while another transaction has locked the row of the queue: the releases that pause wait for it, and
// change nothing without a wait; the others need no such row.
func (r *pauseRun) releaseBesideQueue(releases []queue.Release) error {
	r.say("releases %+v while queue %s is locked", releases, pausedQueue)
	r.now = r.clock()
	unlock := r.h.LockQueue(r.t, r.s, modelSpace, pausedQueue)
	out, err := r.s.ReleaseTasks(queue.WithoutWait(r.ctx), modelSpace, releases)
	unlock()
	if err != nil {
		return err
	}
	return r.recordAll(releases, out, func(rel queue.Release) bool { return rel.Delay > 0 && rel.Scope != queue.ScopeTask })
}

// releaseBesideTask releases while another transaction has locked the rows of a held task.
func (r *pauseRun) releaseBesideTask(releases []queue.Release) error {
	id := releases[r.choose.IntN(len(releases))].ID
	r.now = r.clock()
	locked, unlock := r.h.Lock(r.t, r.s, id)
	r.say("releases %+v while %v are locked", releases, locked)
	out, err := r.s.ReleaseTasks(queue.WithoutWait(r.ctx), modelSpace, releases)
	unlock()
	if err != nil {
		return err
	}
	return r.recordAll(releases, out, func(rel queue.Release) bool { return slices.Contains(locked, rel.ID) })
}

// recordAll records the answers of a call; locked says which releases could not get their rows.
func (r *pauseRun) recordAll(releases []queue.Release, out []queue.Released, locked func(queue.Release) bool) error {
	for i, rel := range releases {
		switch refused := queue.IsLocked(out[i].Err); {
		case refused && locked(rel):
			continue
		case locked(rel):
			return fmt.Errorf("a release of %d was answered by %+v while its row was locked", rel.ID, out[i])
		}
		if err := r.record(rel, out[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *pauseRun) find(id int64) *pausedTask {
	return r.tasks[slices.IndexFunc(r.tasks, func(t *pausedTask) bool { return t.id == id })]
}

// record moves a task as its release says.
func (r *pauseRun) record(rel queue.Release, answer queue.Released) error {
	t := r.find(rel.ID)
	if answer.Err != nil || answer.Task == nil && !rel.Quiet || answer.Replayed != (t.token == 0) {
		return fmt.Errorf("a release of %d (held: %v, quiet: %v) was answered by %+v", t.id, t.token != 0, rel.Quiet, answer)
	}
	if answer.Replayed {
		return nil
	}

	want := r.statusAfter(t, rel)
	after, err := r.ModelRun.find(t.id)
	if err != nil || after == nil {
		return fmt.Errorf("a released task %d is %+v, %w", t.id, after, err)
	}
	if answer.Task != nil && (answer.Task.Status != after.Status || !answer.Task.DelayedAt.Equal(after.DelayedAt)) {
		return fmt.Errorf("a release of %d was answered by %+v, and a read by %+v", t.id, answer.Task, after)
	}
	if after.Status != want || after.Attempt != t.attempt || after.Retries != t.retries {
		return fmt.Errorf("task %d is %s with attempt %d and retries %d after %+v, want %s, %d, %d",
			t.id, after.Status, after.Attempt, after.Retries, rel, want, t.attempt, t.retries)
	}
	t.token, t.finished, t.due = 0, isFinished(want), after.DelayedAt
	if want == queue.StatusFailed {
		r.letters[t.id] = rel.ErrorKind
	}
	if off := t.due.Sub(r.now) - rel.Delay; !t.finished && rel.Delay > 0 && off.Abs() > leeway {
		return fmt.Errorf("task %d waits until %v after %+v at %v", t.id, t.due, rel, r.now)
	}

	until := r.now.Add(rel.Delay)
	switch {
	case rel.Scope == queue.ScopeQueue && until.After(r.paused):
		r.paused = until
	case rel.Scope == queue.ScopeGroup && t.group != "" && until.After(r.groups[t.group]):
		r.groups[t.group] = until
	}
	return nil
}

// statusAfter returns the status of t after a release, and counts its attempts and retries.
func (r *pauseRun) statusAfter(t *pausedTask, rel queue.Release) queue.Status {
	back := rel.Outcome == queue.OutcomeHandBack || rel.Outcome == queue.OutcomeSnooze
	switch {
	case t.asked:
		return queue.StatusCancelled
	case rel.Outcome == queue.OutcomeSuccess:
		return queue.StatusReleased
	case back && t.attempt == 1:
		t.attempt--
		return queue.StatusNew
	case back:
		t.attempt--
		return queue.StatusRetry
	case rel.Outcome == queue.OutcomePermanent || rel.ErrorKind == deadKind || t.retries == 0:
		return queue.StatusFailed
	}
	t.retries--
	return queue.StatusRetry
}

// readRescued reads the tasks with lapsed leases.
func (r *pauseRun) readRescued() error {
	for _, t := range r.held() {
		got, err := r.ModelRun.find(t.id)
		if err != nil || got == nil {
			return fmt.Errorf("task %d of %s: %+v, %w", t.id, pausedQueue, got, err)
		}
		if got.Status == queue.StatusRetained {
			continue
		}

		want := r.statusAfter(t, queue.Release{Outcome: queue.OutcomeFailure})
		if got.Status != want {
			return fmt.Errorf("task %d of a lapsed lease is %s, want %s", t.id, got.Status, want)
		}
		t.token, t.finished, t.due = 0, isFinished(want), got.DelayedAt
		if want == queue.StatusFailed {
			r.letters[t.id] = queue.ErrorKindLeaseLost
		}
	}
	return nil
}

// readLetters works the dead letters: one for each task that failed for good since the last look.
func (r *pauseRun) readLetters() error {
	out, err := r.s.RetainTasks(r.ctx, queue.Retain{
		Namespace: modelSpace, Queues: []string{deadLetters}, Requests: []queue.RetainShare{{Worker: "reader", Limit: 100}},
	})
	if err != nil {
		return err
	}
	var ends []queue.Release
	for _, letter := range out[0] {
		id, _ := strconv.ParseInt(letter.Headers[queue.HeaderDeadLetterTask], 10, 64)
		kind, expected := r.letters[id]
		if !expected {
			return fmt.Errorf("task %d left a dead letter that it should not: %+v", id, letter)
		}
		delete(r.letters, id)
		t := r.find(id)
		have := []string{string(letter.Payload), letter.Group, letter.Headers[queue.HeaderDeadLetterErrorKind], letter.Headers[queue.HeaderDeadLetterAttempts]}
		if want := []string{t.payload, t.group, kind, strconv.Itoa(t.attempt)}; !slices.Equal(have, want) {
			return fmt.Errorf("the dead letter of task %d has %q, want %q", id, have, want)
		}
		r.found = append(r.found, letter.ID)
		ends = append(ends, releaseOf(letter.ID, letter.Lease.Token, queue.OutcomeSuccess))
	}
	if len(r.letters) > 0 {
		return fmt.Errorf("tasks failed and left no dead letter: %v", r.letters)
	}
	if len(ends) == 0 {
		return nil
	}
	released, err := r.s.ReleaseTasks(r.ctx, modelSpace, ends)
	for i := 0; err == nil && i < len(released); i++ {
		err = released[i].Err
	}
	return err
}

// deleteAll deletes the tasks and their dead letters, which have all ended.
func (r *pauseRun) deleteAll() error {
	ids := slices.Clone(r.found)
	for _, t := range r.tasks {
		if !t.finished {
			return fmt.Errorf("task %d (group %q) of %s waits for good", t.id, t.group, pausedQueue)
		}
		ids = append(ids, t.id)
	}
	r.lastID = max(r.lastID, slices.Max(ids))
	done, err := r.s.DeleteTasks(r.ctx, modelSpace, queue.Selection{IDs: ids})
	if err == nil && done.Moved != int64(len(ids)) {
		err = fmt.Errorf("a delete of %d tasks of %s was answered by %+v", len(ids), pausedQueue, done)
	}
	return err
}
