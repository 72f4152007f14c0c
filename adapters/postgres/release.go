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
	locked, err := s.releaseFree(ctx, namespace, releases, out, nil)
	if err != nil {
		return nil, err
	}
	if len(locked) > 0 && queue.Waits(ctx) {
		s.untilFree(ctx, locked, func(ctx context.Context, places []int) ([]int, error) {
			return s.releaseFree(ctx, namespace, releases, out, places)
		}, func(place int, err error) { out[place] = queue.Released{Err: err} })
	}
	return out, nil
}

// releaseFree ends the holds that it can end without waiting for another transaction and returns the others.
func (s *Store) releaseFree(ctx context.Context, namespace string, releases []queue.Release, out []queue.Released, places []int) ([]int, error) {
	answers := out
	if places != nil {
		answers = make([]queue.Released, len(places))
	}
	var m *moves
	err := s.inTx(ctx, "release tasks", func(ctx context.Context, t *tx) (err error) {
		clear(answers)
		m, err = s.release(ctx, t, namespace, pick(releases, places), answers, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.notify.ready(m.woken)
	return put(out, answers, places, func(r queue.Released) error { return r.Err }), nil
}

// release ends holds within t and fills in out. Holds whose row another transaction has locked are waited for; with free they
// are answered with queue.Locked instead.
func (s *Store) release(ctx context.Context, t *tx, namespace string, releases []queue.Release, out []queue.Released, free bool) (*moves, error) {
	tokens, err := s.tokensOf(ctx, t, namespace, releases)
	if err != nil {
		return nil, err
	}
	h := holds{free: free}
	h.queueLock(t, namespace, tokens)
	about := factsByID{}
	about.queueReading(t, releases, tokens)
	all := make([]int64, len(releases))
	for i, r := range releases {
		all[i] = r.ID
	}
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	if err := h.lockMissing(ctx, t, namespace, all, tokens); err != nil {
		return nil, err
	}
	m := newMoves(h.now)
	var lost []int // places that no present hold answers
	for i := range releases {
		r := &releases[i]
		p, ok := h.find(r.ID, tokens[i])
		if !ok || tokens[i] == 0 {
			if _, locked := h.isLocked(r.ID, tokens[i]); locked {
				out[i].Err = queue.Locked(r.ID)
			} else {
				lost = append(lost, i)
			}
			continue
		}
		f, known := about[r.ID]
		if !known && (p.cancelled() || !r.Quiet || r.Outcome != queue.OutcomeSuccess) { // asked to stop after the facts were read
			read := readFacts
			if r.Quiet {
				read = readLives
			}
			if err := t.askNow(ctx, read, about.scan, arg("queue_id", []int32{p.q.id}), arg("id", []int64{r.ID})); err != nil {
				return nil, err
			}
			f, known = about[r.ID]
		}
		p.end()
		out[i].Queue, out[i].Status, out[i].Held = p.q.Name, queue.StatusReleased, m.now.Sub(p.retainedAt)
		if !known {
			m.success(p, r.Result)
			continue
		}
		life, err := m.release(p, f, r)
		if err != nil {
			out[i] = queue.Released{Err: err}
			continue
		}
		out[i].Status = life.Status
		out[i].Task = released(p, f, life, r.Result)
	}
	h.shrink(t)
	m.write(t)
	if len(lost) > 0 {
		if err := s.explainReleases(ctx, t, namespace, releases, tokens, lost, out); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// release moves one held task by what its holder says.
func (m *moves) release(p spot, f facts, r *queue.Release) (queue.Life, error) {
	life := f.life
	held := p.life()
	life.Status, life.Attempt, life.CancelRequested = held.Status, held.Attempt, held.CancelRequested
	move := r.Outcome.Move()
	next, err := p.q.Moved(life, move, queue.Circumstances{
		Now: m.now, Permanent: r.Outcome == queue.OutcomePermanent, Delay: r.Delay, Jitter: rand.Float64(),
	})
	if err != nil {
		return life, err
	}
	m.ended(p, f, next, move, p.taskToken(), r.Result)
	if move == queue.MoveFail {
		m.failure(p.q.id, r.ID, life.Attempt, p.worker, r.Result)
	}
	return next, nil
}

// queueReading queues the reading of released tasks, each as far as its release needs it: a quiet success nothing, any other
// quiet release the columns that a move needs, all others the content too, up to queue.MaxPageBytes a call.
func (f factsByID) queueReading(t *tx, releases []queue.Release, tokens []int64) {
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
		read.tokens = append(read.tokens, leaseToken(tokens[i]))
		read.calls = append(read.calls, int32(r.Call)) //nolint:gosec // at most queue.MaxBatch
	}

	if len(lives.ids) > 0 {
		t.ask(readLivesByToken, f.scan, arg("token", lives.tokens), arg("id", lives.ids))
	}
	if len(contents.ids) > 0 {
		t.ask(readFactsByToken, f.scan, arg("bytes", queue.MaxPageBytes),
			arg("token", contents.tokens), arg("id", contents.ids), arg("call", contents.calls))
	}
}

// ended takes the end of a hold. A task that is not worked keeps its last result.
func (m *moves) ended(p spot, f facts, next queue.Life, move queue.Move, token int64, result []byte) {
	keep := move == queue.MoveHandBack || move == queue.MoveSnooze
	m.add(moved{
		q: &p.q, id: f.task.ID, priority: f.task.Priority, move: move, was: queue.StatusRetained, life: next,
		startedAt: p.retainedAt, token: token, worker: p.worker, result: result, keep: keep,
	})
}

// released is the task after its hold ended.
func released(p spot, f facts, life queue.Life, result []byte) *queue.Task {
	t := f.task
	t.Namespace, t.Queue, t.Worker, t.StartedAt = p.q.Namespace, p.q.Name, p.worker, p.retainedAt
	if life.Status.Finished() || len(result) > 0 {
		t.Result = result
	}
	life.FinishedAt, life.DelayedAt, life.DiesAt = micros(life.FinishedAt), micros(life.DelayedAt), micros(life.DiesAt)
	t.SetLife(life)
	return t
}

// tokensOf finds the tokens that callers did not send.
func (s *Store) tokensOf(ctx context.Context, t *tx, namespace string, releases []queue.Release) ([]int64, error) {
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
	err := t.askNow(ctx, findTokens, func(rows pgx.Rows) error {
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
	there, err := s.statesIn(ctx, t, namespace, ids)
	if err != nil {
		return err
	}
	replayed := false
	var wanted []wantedTask
	for _, at := range lost {
		n, r := there[releases[at].ID], releases[at]
		switch {
		case n == nil:
			out[at].Err = noTask(r.ID)
		case r.Token == 0: // nothing to tell a repeat by
			out[at].Err = notHeld(r.ID)
		case n.lastToken == tokens[at] && n.task.Status != queue.StatusRetained:
			out[at].Task, out[at].Replayed = n.task, true
			replayed = true
			if !r.Quiet {
				wanted = append(wanted, wantedTask{n.queue, r.ID, r.Call})
			}
		default:
			out[at].Err = leaseLost(r.ID)
		}
	}
	if replayed {
		t.send(waitForStandby)
	}
	if len(wanted) == 0 {
		return nil
	}

	whole, err := readWanted(ctx, t, wanted)
	for _, at := range lost {
		if task := whole[releases[at].ID]; task != nil && out[at].Replayed && !releases[at].Quiet {
			out[at].Task = task
		}
	}
	return err
}
