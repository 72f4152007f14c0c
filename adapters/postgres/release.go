package postgres

import (
	"cmp"
	"context"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// ReleaseTasks implements queue.Store. Successes whose caller needs nothing back cost two round trips and no look at the
// tasks; all other outcomes go through the domain's rules.
func (s *Store) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	if len(releases) == 0 {
		return nil, nil
	}
	out := make([]queue.Released, len(releases))
	locked, err := s.releaseUnlocked(ctx, namespace, releases, out, nil)
	if err != nil {
		return nil, err
	}
	if len(locked) > 0 && queue.Waits(ctx) {
		s.repeatUntilUnlocked(ctx, locked, func(ctx context.Context, places []int) ([]int, error) {
			return s.releaseUnlocked(ctx, namespace, releases, out, places)
		}, func(place int, err error) { out[place] = queue.Released{Err: err} })
	}
	return out, nil
}

// releaseUnlocked ends the holds that it can end without waiting for another transaction and returns the others.
func (s *Store) releaseUnlocked(ctx context.Context, namespace string, releases []queue.Release, out []queue.Released, places []int) ([]int, error) {
	answers := out
	if places != nil {
		answers = make([]queue.Released, len(places))
	}
	var m *moves
	err := s.runInTx(ctx, "release tasks", func(ctx context.Context, t *tx) (err error) {
		clear(answers)
		m, err = s.releaseTasksIn(ctx, t, namespace, selectPlaces(releases, places), answers, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.notify.notifyReady(m.woken)
	return collectAnswers(out, answers, places, func(r queue.Released) error { return r.Err }), nil
}

// releaseTasksIn ends holds within t and fills in out. Holds whose row another transaction has locked are waited for; with free they
// are answered with queue.Locked instead.
func (s *Store) releaseTasksIn(ctx context.Context, t *tx, namespace string, releases []queue.Release, out []queue.Released, free bool) (*moves, error) {
	tokens, err := s.findMissingTokens(ctx, t, namespace, releases)
	if err != nil {
		return nil, err
	}

	h := lockedLeases{skipsLocked: free}
	h.queueLeaseLock(t, namespace, tokens)
	about := taskRecords{}
	about.queueRecordReading(t, releases, tokens)
	all := make([]int64, len(releases))
	for i, r := range releases {
		all[i] = r.ID
	}

	if err := t.flushBatch(ctx); err != nil {
		return nil, err
	}

	if err := h.lockMissingLeases(ctx, t, namespace, all, tokens); err != nil {
		return nil, err
	}

	m := makeMoves(h.now)
	var lost []int // places that no present hold answers
	for i := range releases {
		r := &releases[i]
		p, ok := h.findHeldTask(r.ID, tokens[i])
		if !ok || tokens[i] == 0 {
			if _, locked := h.findInLockedRow(r.ID, tokens[i]); locked {
				out[i].Err = queue.Locked(r.ID)
			} else {
				lost = append(lost, i)
			}
			continue
		}

		f, known := about[r.ID]
		if !known && (p.isCancelRequested() || !r.Quiet || r.Outcome != queue.OutcomeSuccess) { // asked to stop after the facts were read
			read := readFacts
			if r.Quiet {
				read = readLives
			}
			if err := t.queryRows(ctx, read, about.scanTaskRecord, arg("queue_id", []int32{p.q.id}), arg("id", []int64{r.ID})); err != nil {
				return nil, err
			}
			f, known = about[r.ID]
		}

		p.endLease()
		out[i].Queue, out[i].Status, out[i].Held = p.q.Name, queue.StatusReleased, m.now.Sub(p.retainedAt)
		if !known {
			m.addSuccess(p, r.Result)
			continue
		}

		life, err := m.releaseTask(p, f, r)
		if err != nil {
			out[i] = queue.Released{Err: err}
			continue
		}

		out[i].Status = life.Status
		out[i].Task = makeReleasedTask(p, f, life, r.Result)
	}

	h.shrinkLeases(t)
	m.writeAllRows(t)
	if len(lost) > 0 {
		if err := s.explainReleases(ctx, t, namespace, releases, tokens, lost, out); err != nil {
			return nil, err
		}
	}

	return m, nil
}

// releaseTask moves one held task by what its holder says.
func (m *moves) releaseTask(p heldTask, f taskRecord, r *queue.Release) (queue.Life, error) {
	life := f.life
	held := p.lifeOfTask()
	life.Status, life.Attempt, life.CancelRequested = held.Status, held.Attempt, held.CancelRequested
	move := r.Outcome.Move()
	next, err := p.q.Moved(life, move, queue.Circumstances{
		Now: m.now, Permanent: r.Outcome == queue.OutcomePermanent, Delay: r.Delay, Jitter: rand.Float64(),
	})
	if err != nil {
		return life, err
	}
	m.addLeaseEnd(p, f, next, move, p.tokenOfTask(), r.Result)
	if move == queue.MoveFail {
		m.addFailure(p.q.id, r.ID, life.Attempt, p.worker, r.Result)
	}
	return next, nil
}

// queueRecordReading queues the reading of released tasks, each as far as its release needs it: a quiet success nothing, any other
// quiet release the columns that a move needs, all others the content too, up to queue.MaxPageBytes a call.
func (f taskRecords) queueRecordReading(t *tx, releases []queue.Release, tokens []int64) {
	var lives, contents struct {
		ids, tokens []int64
		calls       []int32
	}
	for i, r := range releases {
		if r.Quiet && r.Outcome == queue.OutcomeSuccess {
			continue
		}

		read := &contents
		if r.Quiet {
			read = &lives
		}
		read.ids = append(read.ids, r.ID)
		read.tokens = append(read.tokens, tokenOfLeaseRow(tokens[i]))
		read.calls = append(read.calls, int32(r.Call)) //nolint:gosec // at most queue.MaxBatch
	}

	if len(lives.ids) > 0 {
		t.queueQuery(readLivesByToken, f.scanTaskRecord, arg("token", lives.tokens), arg("id", lives.ids))
	}
	if len(contents.ids) > 0 {
		t.queueQuery(readFactsByToken, f.scanTaskRecord, arg("bytes", queue.MaxPageBytes),
			arg("token", contents.tokens), arg("id", contents.ids), arg("call", contents.calls))
	}
}

// addLeaseEnd takes the end of a hold. A task that is not worked keeps its last result.
func (m *moves) addLeaseEnd(p heldTask, f taskRecord, next queue.Life, move queue.Move, token int64, result []byte) {
	keep := move == queue.MoveHandBack || move == queue.MoveSnooze
	m.addMove(taskMove{
		q: &p.q, id: f.task.ID, priority: f.task.Priority, move: move, was: queue.StatusRetained, life: next,
		startedAt: p.retainedAt, token: token, worker: p.worker, result: result, keep: keep,
	})
}

// makeReleasedTask is the task after its hold ended.
func makeReleasedTask(p heldTask, f taskRecord, life queue.Life, result []byte) *queue.Task {
	t := f.task
	t.Namespace, t.Queue, t.Worker, t.StartedAt = p.q.Namespace, p.q.Name, p.worker, p.retainedAt
	if life.Status.Finished() || len(result) > 0 {
		t.Result = result
	}
	life.FinishedAt, life.DelayedAt, life.DiesAt = truncateToMicros(life.FinishedAt), truncateToMicros(life.DelayedAt), truncateToMicros(life.DiesAt)
	t.SetLife(life)
	return t
}

// findMissingTokens finds the tokens that callers did not send.
func (s *Store) findMissingTokens(ctx context.Context, t *tx, namespace string, releases []queue.Release) ([]int64, error) {
	tokens := make([]int64, len(releases))
	var unknown []int64
	for i, r := range releases {
		if tokens[i] = r.Token; r.Token == 0 {
			unknown = append(unknown, r.ID)
		}
	}

	if len(unknown) == 0 {
		return tokens, nil
	}

	found := map[int64]int64{}
	err := t.queryRows(ctx, findTokens, func(rows pgx.Rows) error {
		var id, token int64
		err := rows.Scan(&id, &token)
		found[id] = token
		return err
	}, arg("ids", unknown), arg("namespace", namespace))

	for i, r := range releases {
		tokens[i] = cmp.Or(tokens[i], found[r.ID])
	}

	return tokens, err
}

// explainReleases answers releases whose hold is not there: a repeat of an accepted one is told the same, the others why not.
func (s *Store) explainReleases(ctx context.Context, t *tx, namespace string, releases []queue.Release, tokens []int64, lost []int, out []queue.Released) error {
	ids := make([]int64, len(lost))
	for i, at := range lost {
		ids[i] = releases[at].ID
	}

	there, err := s.readTaskStates(ctx, t, namespace, ids)
	if err != nil {
		return err
	}

	replayed := false
	var wanted []wantedTask
	for _, at := range lost {
		n, r := there[releases[at].ID], releases[at]
		switch {
		case n == nil:
			out[at].Err = makeNoTaskError(r.ID)

		case r.Token == 0: // nothing to tell a repeat by
			out[at].Err = makeNotRetainedError(r.ID)

		case n.lastToken == tokens[at] && n.task.Status != queue.StatusRetained:
			out[at].Task, out[at].Replayed = n.task, true
			replayed = true
			if !r.Quiet {
				wanted = append(wanted, wantedTask{n.queue, r.ID, r.Call})
			}

		default:
			out[at].Err = makeLeaseLostError(r.ID)
		}
	}

	if replayed {
		t.queueStatement(waitForStandby)
	}

	if len(wanted) == 0 {
		return nil
	}

	whole, err := readWantedTasks(ctx, t, wanted)
	for _, at := range lost {
		if task := whole[releases[at].ID]; task != nil && out[at].Replayed && !releases[at].Quiet {
			out[at].Task = task
		}
	}
	return err
}
