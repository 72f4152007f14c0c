package feed

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/manager/internal/owner"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/retry"
)

// Awaits has the callers that await the end of a task. A release of this process ends the wait at once, the feed of
// events gives a hint where it is read, and a search at a growing interval finds the other ends. It is safe for concurrent use.
type Awaits struct {
	owner *owner.Owner
	store Store

	mu         sync.Mutex
	namespaces map[string]*awaitedTasks
}

type awaitedTasks struct {
	*owner.WakeTimer

	tasks map[int64]*awaitedTask
}

type awaitedTask struct {
	awaiters map[*awaiter]struct{}
	backoff  retry.Backoff
	pause    time.Duration // between the last search and the next
	searchAt time.Time
}

type awaiter struct {
	done chan struct{}
	task *queue.Task
	err  error
}

// NewAwaits returns Awaits without callers.
func NewAwaits(o *owner.Owner, store Store) *Awaits {
	return &Awaits{owner: o, store: store, namespaces: map[string]*awaitedTasks{}}
}

// Await returns the finished task, or nil when it is not finished after wait.
func (as *Awaits) Await(ctx context.Context, namespace string, id int64, wait time.Duration) (*queue.Task, error) {
	end, err := as.owner.Wait()
	if err != nil {
		return nil, err
	}
	defer end()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	a := &awaiter{done: make(chan struct{})}
	// The registration comes before the first search, so an end between the two is not missed.
	if !as.registerAwaiter(namespace, id, a) {
		return nil, owner.ClosedError()
	}
	defer as.removeAwaiter(namespace, id, a)

	select {
	case <-a.done:
		return a.task, a.err
	case <-ctx.Done():
		return nil, queue.ContextError(ctx.Err())
	case <-as.owner.Closing():
		return nil, owner.ClosedError()
	case <-timer.C:
		return nil, nil
	}
}

// registerAwaiter has the task searched at once; false when the manager is closed.
func (as *Awaits) registerAwaiter(namespace string, id int64, a *awaiter) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	awaited := as.namespaces[namespace]
	if awaited == nil {
		awaited = &awaitedTasks{WakeTimer: owner.NewWakeTimer(), tasks: map[int64]*awaitedTask{}}
		if !as.owner.Go(func() { as.searchUntilDone(namespace, awaited) }) {
			return false
		}
		as.namespaces[namespace] = awaited
	}

	t := awaited.tasks[id]
	if t == nil {
		t = &awaitedTask{awaiters: map[*awaiter]struct{}{}, backoff: as.owner.PollBackoff()}
		awaited.tasks[id] = t
	}
	t.awaiters[a] = struct{}{}
	t.searchAt = time.Time{}
	awaited.Fire()

	return true
}

func (as *Awaits) removeAwaiter(namespace string, id int64, a *awaiter) {
	as.mu.Lock()
	defer as.mu.Unlock()
	awaited := as.namespaces[namespace]
	if awaited == nil || awaited.tasks[id] == nil {
		return
	}

	delete(awaited.tasks[id].awaiters, a)
	if len(awaited.tasks[id].awaiters) == 0 {
		awaited.forgetTask(id)
	}
}

// forgetTask forgets a task. The goroutine of a namespace without tasks ends.
func (awaited *awaitedTasks) forgetTask(id int64) {
	delete(awaited.tasks, id)
	if len(awaited.tasks) == 0 {
		awaited.Fire()
	}
}

// searchUntilDone searches for the ends of tasks while callers await any.
func (as *Awaits) searchUntilDone(namespace string, awaited *awaitedTasks) {
	for {
		ids, sleep, ok := as.takeDueTasks(namespace, awaited)
		switch {
		case !ok:
			return
		case len(ids) > 0:
			as.searchForEnds(namespace, awaited, ids)
		case !awaited.Sleep(as.owner.Closing(), sleep):
			return
		}
	}
}

// takeDueTasks returns the tasks to search now, at most a page of them, or else the time until the next; ok is false when no
// task is left. Tasks that have waited half their pause come along, so that all share calls whenever they began.
func (as *Awaits) takeDueTasks(namespace string, awaited *awaitedTasks) (ids []int64, sleep time.Duration, ok bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	// Under the lock that registers callers, so none joins a goroutine that ends.
	if len(awaited.tasks) == 0 || as.owner.Closed() {
		delete(as.namespaces, namespace)
		return nil, 0, false
	}

	now := time.Now()
	sleep = as.owner.PollInterval
	for _, t := range awaited.tasks {
		sleep = min(sleep, t.searchAt.Sub(now))
	}
	if sleep > 0 {
		return nil, sleep, true
	}

	for id, t := range awaited.tasks {
		if t.searchAt.Sub(now) <= t.pause/2 && len(ids) < queue.MaxPage {
			ids = append(ids, id)
			t.pause = t.backoff.Next()
			t.searchAt = now.Add(t.pause)
		}
	}
	slices.Sort(ids)

	return ids, 0, true
}

// readBatch bounds the finished tasks of one read, so that few payloads are in memory at once.
const readBatch = 16

// searchForEnds asks the Store which tasks are finished, and answers the callers that await them.
func (as *Awaits) searchForEnds(namespace string, awaited *awaitedTasks, ids []int64) {
	ctx, cancel := as.owner.NewCall()
	defer cancel()
	finished, err := as.store.EndedTasks(ctx, namespace, ids)
	if err != nil {
		as.failAwaiters(awaited, ids, err)
		return
	}

	for part := range slices.Chunk(finished, readBatch) {
		as.readFinishedTasks(ctx, namespace, awaited, part)
	}
}

// failAwaiters answers the callers that await tasks with an error that waiting does not help against.
func (as *Awaits) failAwaiters(awaited *awaitedTasks, ids []int64, err error) {
	if owner.MayPass(err) {
		return
	}

	as.mu.Lock()
	defer as.mu.Unlock()
	for _, id := range ids {
		awaited.answerAwaiters(id, nil, err)
	}
}

// readFinishedTasks reads finished tasks and answers their callers. A task that an operator has made new meanwhile stays awaited.
func (as *Awaits) readFinishedTasks(ctx context.Context, namespace string, awaited *awaitedTasks, ids []int64) {
	tasks, err := as.store.GetTasks(ctx, namespace, ids, false)
	if err != nil {
		as.failAwaiters(awaited, ids, err)
		return
	}

	as.mu.Lock()
	defer as.mu.Unlock()
	found := make(map[int64]bool, len(tasks))
	for _, t := range tasks {
		found[t.ID] = true
		if t.Status.Finished() {
			awaited.answerAwaiters(t.ID, t, nil)
		}
	}
	for _, id := range ids {
		if !found[id] {
			// The task has been deleted or pruned, and no search will find it again.
			awaited.answerAwaiters(id, nil, queue.NotFoundTask(id))
		}
	}
}

// answerAwaiters ends the wait of the callers that await a task. Each gets a copy.
func (awaited *awaitedTasks) answerAwaiters(id int64, t *queue.Task, err error) {
	at := awaited.tasks[id]
	if at == nil {
		return
	}

	for a := range at.awaiters {
		if t != nil {
			// Callers own their answers, and may change them at the same time.
			a.task = t.Clone()
		}
		a.err = err
		close(a.done)
	}
	awaited.forgetTask(id)
}

// Finished answers the callers that await t, which this process has just finished. t stays the caller's.
func (as *Awaits) Finished(t *queue.Task) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if awaited := as.namespaces[t.Namespace]; awaited != nil {
		awaited.answerAwaiters(t.ID, t, nil)
	}
}

// Search has a task searched that may be finished.
func (as *Awaits) Search(namespace string, id int64) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if awaited := as.namespaces[namespace]; awaited != nil && awaited.tasks[id] != nil {
		awaited.tasks[id].searchAt = time.Time{}
		awaited.Fire()
	}
}

// SearchAll has every awaited task of a namespace searched; "" = of all namespaces.
func (as *Awaits) SearchAll(namespace string) {
	as.mu.Lock()
	defer as.mu.Unlock()
	for name, awaited := range as.namespaces {
		if namespace == "" || namespace == name {
			for _, t := range awaited.tasks {
				t.searchAt = time.Time{}
			}
			awaited.Fire()
		}
	}
}

// Len returns the number of namespaces with awaited tasks.
func (as *Awaits) Len() int {
	as.mu.Lock()
	defer as.mu.Unlock()

	return len(as.namespaces)
}
