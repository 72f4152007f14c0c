package postgres

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// ReleaseTasks implements queue.Store. A success with a caller that wants no task back costs two round trips and reads
// no task. All other outcomes follow the rules of the domain.
func (s *Store) ReleaseTasks(ctx context.Context, namespace string, releases []queue.Release) ([]queue.Released, error) {
	if len(releases) == 0 {
		return nil, nil
	}
	out := make([]queue.Released, len(releases))
	locked, err := s.releaseUnlocked(ctx, namespace, releases, out, nil)
	if err != nil {
		return nil, err
	}
	// Another transaction holds the rows of the locked tasks; a caller that can wait gets further tries.
	if len(locked) > 0 && queue.Waits(ctx) {
		try := func(ctx context.Context, indexes []int) ([]int, error) {
			return s.releaseUnlocked(ctx, namespace, releases, out, indexes)
		}
		s.repeatUntilUnlocked(ctx, unlockWait{locked, try, func(index int, err error) { out[index] = queue.Released{Err: err} }})
	}
	return out, nil
}

// releaseUnlocked ends the leases that it can end without waiting for another transaction. It returns the indexes of the
// others.
func (s *Store) releaseUnlocked(ctx context.Context, namespace string, releases []queue.Release, out []queue.Released, indexes []int) ([]int, error) {
	answers := out
	if indexes != nil {
		answers = make([]queue.Released, len(indexes))
	}
	var m *moves
	release := func(ctx context.Context, t *txn.Tx) (err error) {
		clear(answers)
		m, err = s.releaseTasksIn(ctx, t, namespace, selectAt(releases, indexes), answers, true)
		return err
	}
	err := s.db.Run(ctx, "release tasks", release)
	for m != nil && m.needsPartition(err) {
		if err = s.extendTo(ctx, m.maxLetter); err == nil {
			err = s.db.Run(ctx, "release tasks", release)
		}
	}
	if err != nil {
		return nil, err
	}
	s.settleDeadLetters(m)
	if !m.pauses.isEmpty() {
		s.catalog.forgetNamespace(namespace)
	}
	s.notify.NotifyReady(m.woken)
	return collectAnswers(out, answers, indexes, func(r queue.Released) error { return r.Err }), nil
}

// releaseTasksIn ends leases within t and fills in out. It waits for lease rows that another transaction has locked.
// With free set it does not wait, and sets queue.Locked as the error of their tasks.
func (s *Store) releaseTasksIn(ctx context.Context, t *txn.Tx, namespace string, releases []queue.Release, out []queue.Released, free bool) (*moves, error) {
	tokens, err := s.findMissingTokens(ctx, t, namespace, releases)
	if err != nil {
		return nil, err
	}

	// The locks and the reads travel in one round trip.
	h := lockedLeases{known: &s.known, skipsLocked: free}
	h.queueLeaseLock(t, namespace, tokens)
	about := taskRecords{}
	about.queueRecordReading(t, releases, tokens)
	all := make([]int64, len(releases))
	for i, r := range releases {
		all[i] = r.ID
	}

	if err := h.flushAndReadQueues(ctx, t); err != nil {
		return nil, err
	}

	if err := h.retryMissingLeases(ctx, t, namespace, all, tokens); err != nil {
		return nil, err
	}

	if err := about.readMissingRecords(ctx, t, &h, releases, tokens); err != nil {
		return nil, err
	}

	m := makeMoves(h.now)
	if err := m.pauses.lockQueues(ctx, t, &h, releases, tokens, free); err != nil {
		return nil, err
	}
	if free {
		if err := s.readLetterSizes(ctx, t, m, &h, releases, tokens); err != nil {
			return nil, err
		}
	}
	lost := m.endHeldTasks(&h, about, releases, tokens, out)

	if err := s.writeDeadLetters(ctx, t, m); err != nil {
		return m, err
	}
	h.shrinkLeases(t)
	m.writeAllRows(t)
	m.pauses.queueWrites(t)

	// A repeated release gets the first result again; the others get the reason.
	if len(lost) > 0 {
		if err := s.explainReleases(ctx, t, namespace, releases, tokens, lost, out); err != nil {
			return nil, err
		}
	}

	return m, nil
}

// readLetterSizes reads the bytes that dead letters of the releases would copy, if they may exceed maxLetterBytes.
func (s *Store) readLetterSizes(ctx context.Context, t *txn.Tx, m *moves, h *lockedLeases, releases []queue.Release, tokens []int64) error {
	var letters []taskPlace
	for i, r := range releases {
		p, held := h.findHeldTask(r.ID, tokens[i])
		if held && p.q.DeadLetter != "" && r.Outcome.Move() == queue.MoveFail {
			letters = append(letters, taskPlace{p.q.id, r.ID})
		}
	}
	if len(letters)*s.opt.maxPayload <= maxLetterBytes {
		return nil
	}
	m.queueLetterSizes(t, letters)
	return t.Flush(ctx)
}

// endHeldTasks ends the leases of held tasks and fills in the answers. It returns the indexes of the releases without a present
// lease. It leaves tasks for a later transaction when their dead letters have too many bytes for this one: they count as locked.
func (m *moves) endHeldTasks(h *lockedLeases, about taskRecords, releases []queue.Release, tokens []int64, out []queue.Released) (lost []int) {
	var left map[int64]bool
	for i := range releases {
		r := &releases[i]
		p, ok := h.findHeldTask(r.ID, tokens[i])
		f, known := about[r.ID]
		// A second release of a task that stays comes behind the first.
		if ok && (left[r.ID] || !m.pauses.mayPause(p.q, r) || r.Outcome.Move() == queue.MoveFail && m.exceedsLetters(r.ID)) {
			if left == nil {
				left = map[int64]bool{}
			}
			left[r.ID] = true
			out[i].Err = queue.Locked(r.ID)
			continue
		}

		switch {
		case ok && tokens[i] != 0 && (known || !p.needsRecord(r)):
			out[i] = m.endHeldTask(p, f, known, r)
		case h.isLockedByOthers(r.ID, tokens[i]):
			out[i].Err = queue.Locked(r.ID)
		default: // without a lease, or its queue was deleted after the lock
			lost = append(lost, i)
		}
	}
	return lost
}

// endHeldTask ends the lease of a held task and adds the new state of the task. It returns the answer to the release. A plain
// success needs no rule of the domain, and then the record f need not be known.
func (m *moves) endHeldTask(p heldTask, f taskRecord, known bool, r *queue.Release) queue.Released {
	p.endLease()
	m.wakeForSuspects(p)
	out := queue.Released{Queue: p.q.Name, Status: queue.StatusReleased, Held: m.now.Sub(p.retainedAt)}
	if !known {
		m.addSuccess(p, r.Result)
		return out
	}

	life, err := m.releaseTask(p, f, r)
	if err != nil {
		return queue.Released{Err: err}
	}
	out.Status = life.Status
	out.Task = makeReleasedTask(p, f, life, r.Result)
	return out
}

// needsRecord reports whether a release needs the record of its task. A plain success needs none.
func (p heldTask) needsRecord(r *queue.Release) bool {
	return !r.Quiet || r.Outcome != queue.OutcomeSuccess || p.isCancelRequested()
}

// readMissingRecords reads the records of held tasks that the first read left out: those with a cancel request that came
// after it, and all of a call with a large task.
func (f taskRecords) readMissingRecords(ctx context.Context, t *txn.Tx, h *lockedLeases, releases []queue.Release, tokens []int64) error {
	var lives []taskPlace
	large := map[int]bool{} // calls that may exceed the bound
	for i := range releases {
		r := &releases[i]
		p, held := h.findHeldTask(r.ID, tokens[i])
		if _, known := f[r.ID]; known || !held || !p.needsRecord(r) {
			continue
		}

		if r.Quiet {
			lives = append(lives, taskPlace{p.q.id, r.ID})
		} else {
			large[r.Call] = true
		}
	}

	if len(lives) > 0 {
		if err := t.Query(ctx, readLives, f.makeScanner(taskLifeColumns, nil), placeColumns.Arrays(nil, lives)...); err != nil {
			return err
		}
	}

	if len(large) == 0 {
		return nil
	}

	// The bound is that of the whole call, so the tasks that were read count again.
	var wanted []wantedTask
	for i, r := range releases {
		if p, held := h.findHeldTask(r.ID, tokens[i]); held && !r.Quiet && large[r.Call] {
			wanted = append(wanted, wantedTask{p.q.id, r.ID, int32(r.Call)}) //nolint:gosec // at most queue.MaxBatch
		}
	}
	return readWantedRows(ctx, t, wanted, func(n *nowRow) {
		f[n.task.ID] = taskRecord{n.task, n.bucket, queue.Life{DelayedAt: n.task.DelayedAt, DiesAt: n.task.DiesAt, Retries: n.task.Retries}}
	})
}

// releaseTask computes the new state of one held task from the outcome of its release, and adds it to m.
func (m *moves) releaseTask(p heldTask, f taskRecord, r *queue.Release) (queue.Life, error) {
	// Status, attempt and cancel request of a held task are those of its lease row.
	life := f.life
	held := p.lifeOfTask()
	life.Status, life.Attempt, life.CancelRequested = held.Status, held.Attempt, held.CancelRequested
	move := r.Outcome.Move()
	next, err := p.q.Moved(life, move, queue.Circumstances{
		Now: m.now, Permanent: r.Outcome == queue.OutcomePermanent, ErrorKind: r.ErrorKind, Delay: r.Delay, Jitter: rand.Float64(),
	})
	if err != nil {
		return life, err
	}
	m.pauses.addPause(p.q, f.task.Group, r, m.now)
	m.addLeaseEnd(p, f, next, move, p.tokenOfTask(), queue.AttemptError{Error: r.Result, Kind: r.ErrorKind})
	if move == queue.MoveFail {
		m.addFailure(p.q.id, r.ID, queue.AttemptError{
			Attempt: life.Attempt, Worker: p.worker, Error: r.Result, Kind: r.ErrorKind, Fingerprint: r.Fingerprint,
		})
	}
	return next, nil
}

// queueRecordReading queues the reads for released tasks, each as short as the release allows. A quiet success reads
// nothing. Any other quiet release reads the columns of a move. All others also read the content. A call with several of
// them reads a content only if it fits into its equal share of queue.MaxPageBytes.
func (f taskRecords) queueRecordReading(t *txn.Tx, releases []queue.Release, tokens []int64) {
	loud := map[int]int{} // releases with content, by call
	for _, r := range releases {
		if !r.Quiet {
			loud[r.Call]++
		}
	}

	type reading struct {
		ids, tokens []int64
	}
	var lives, single reading
	var several []factReading
	for i, r := range releases {
		token := tokenOfLeaseRow(tokens[i])
		switch n := loud[r.Call]; {
		case r.Quiet && r.Outcome == queue.OutcomeSuccess:
		case r.Quiet:
			lives.ids, lives.tokens = append(lives.ids, r.ID), append(lives.tokens, token)
		case n > 1:
			several = append(several, factReading{token, r.ID, int32(queue.MaxPageBytes / n)}) //nolint:gosec // at most queue.MaxPageBytes
		default:
			single.ids, single.tokens = append(single.ids, r.ID), append(single.tokens, token)
		}
	}

	if len(lives.ids) > 0 {
		t.QueueQuery(readLivesByToken, f.makeScanner(taskLifeColumns, nil), arg("token", lives.tokens), arg("id", lives.ids))
	}
	if len(single.ids) > 0 {
		t.QueueQuery(readFactsByToken, f.makeScanner(taskColumns, nil), arg("token", single.tokens), arg("id", single.ids))
	}
	f.queueFactReading(t, several)
}

// factReading is the read of a released task with its content.
type factReading struct {
	token int64 // of the lease row
	id    int64
	most  int32 // bytes of content
}

var factReadingColumns = table.Of[factReading]()

// queueFactReading queues the reads of tasks with content. The tasks of a lease row are read as a range when their ids are dense.
func (f taskRecords) queueFactReading(t *txn.Tx, wanted []factReading) {
	slices.SortFunc(wanted, func(a, b factReading) int { return cmp.Or(cmp.Compare(a.token, b.token), cmp.Compare(a.id, b.id)) })

	var sparse []factReading
	for len(wanted) > 0 {
		// Tasks that exceed the smallest share of their calls stay unread; readMissingRecords reads them.
		n, least := 1, wanted[0].most
		for n < len(wanted) && wanted[n].token == wanted[0].token {
			least = min(least, wanted[n].most)
			n++
		}

		row := wanted[:n]
		wanted = wanted[n:]
		first, last := row[0].id, row[n-1].id
		if !areDense(n, first, last) {
			sparse = append(sparse, row...)
			continue
		}
		asked := make(map[int64]bool, n)
		for _, w := range row {
			asked[w.id] = true
		}
		t.QueueQuery(readFactsInRange, f.makeScanner(taskColumns, asked),
			arg("token", row[0].token), arg("first", first), arg("last", last), arg("most", least))
	}

	if len(sparse) > 0 {
		t.QueueQuery(readSmallFacts, f.makeScanner(taskColumns, nil), factReadingColumns.Arrays(nil, sparse)...)
	}
}

// addLeaseEnd adds the end of a lease. A hand-back or a snooze keeps the last result of the task.
func (m *moves) addLeaseEnd(p heldTask, f taskRecord, next queue.Life, move queue.Move, token int64, end queue.AttemptError) {
	keep := move == queue.MoveHandBack || move == queue.MoveSnooze
	m.addMove(taskMove{
		q: p.q, id: f.task.ID, priority: f.task.Priority, bucket: f.bucket, group: f.task.Group, move: move, was: queue.StatusRetained, life: next,
		startedAt: p.retainedAt, token: token, worker: p.worker, result: end.Error, keep: keep, errorKind: end.Kind,
	})
}

// makeReleasedTask returns the task as it is after the end of its lease.
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

// findMissingTokens returns the tokens of all releases. It reads from the database those that the callers did not send.
func (s *Store) findMissingTokens(ctx context.Context, t *txn.Tx, namespace string, releases []queue.Release) ([]int64, error) {
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

	// An operator releases by id alone. A task without a lease keeps token 0, which no lease row has.
	found := map[int64]int64{}
	err := t.Query(ctx, findTokens, func(rows pgx.Rows) error {
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

// explainReleases fills in the results of releases without a present lease. The repeat of an accepted release gets the
// same result; all others get an error with the reason.
func (s *Store) explainReleases(ctx context.Context, t *txn.Tx, namespace string, releases []queue.Release, tokens []int64, lost []int, out []queue.Released) error {
	ids := make([]int64, len(lost))
	for i, at := range lost {
		ids[i] = releases[at].ID
	}

	there, err := readTaskStates(ctx, t, namespace, ids)
	if err != nil {
		return err
	}

	var replayed []int // indexes of repeated releases
	for _, at := range lost {
		n, r := there[releases[at].ID], releases[at]
		switch {
		case n == nil:
			out[at].Err = queue.NotFoundTask(r.ID)

		case r.Token == 0: // a release without a token cannot be recognized as a repeat
			out[at].Err = makeNotRetainedError(r.ID)

		case n.lastToken == tokens[at] && n.task.Status != queue.StatusRetained:
			out[at].Task, out[at].Replayed = n.task, true
			replayed = append(replayed, at)

		default:
			out[at].Err = makeLeaseLostError(r.ID)
		}
	}

	if len(replayed) == 0 {
		return nil
	}
	// The first release may lack the confirmation of a standby, so this commit waits for it.
	t.Queue(waitForStandby)
	return readReplayedTasks(ctx, t, releases, there, replayed, out)
}

// readReplayedTasks fills in the whole tasks of the repeated releases that ask for them.
func readReplayedTasks(ctx context.Context, t *txn.Tx, releases []queue.Release, there nowRows, replayed []int, out []queue.Released) error {
	replayed = slices.DeleteFunc(replayed, func(at int) bool { return releases[at].Quiet })
	if len(replayed) == 0 {
		return nil
	}

	wanted := make([]wantedTask, len(replayed))
	for i, at := range replayed {
		r := releases[at]
		wanted[i] = wantedTask{there[r.ID].queue, r.ID, int32(r.Call)} //nolint:gosec // at most queue.MaxBatch
	}
	whole, err := readWantedTasks(ctx, t, wanted)
	for _, at := range replayed {
		if task := whole[releases[at].ID]; task != nil {
			out[at].Task = task
		}
	}
	return err
}
