package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// This file has the operations of the model on several tasks at once: calls that name a task twice, callers that share
// a Store call, and rows that another transaction has locked.

// wasHeld reports whether t is or was under a lease.
func (m *ModelRun) wasHeld(t *modelTask) bool { return t.held > 0 && !m.past(t) }

// some returns up to n tasks that ok accepts, and names some of them more than once.
func (m *ModelRun) some(n int, ok func(*modelTask) bool) []*modelTask {
	var out []*modelTask
	for range n {
		if len(out) > 0 && m.choose.IntN(3) == 0 {
			out = append(out, out[m.choose.IntN(len(out))])
			continue
		}
		if t := m.pick(ok); t != nil {
			out = append(out, t)
		}
	}
	return out
}

// anyBeat returns a heartbeat of t: with or without a lease, with or without progress, at times with a stale token.
func (m *ModelRun) anyBeat(t *modelTask) queue.Heartbeat {
	h := queue.Heartbeat{ID: t.id, Token: t.token}
	if m.choose.IntN(8) == 0 && h.Token > 1 {
		h.Token--
	}
	switch m.choose.IntN(4) {
	case 0:
		h.Lease = 3 * time.Hour
	case 1:
		h.Lease = 9 * time.Hour
	}
	if m.choose.IntN(3) == 0 {
		h.Progress = fmt.Appendf(nil, `%d`, m.choose.IntN(1000))
	}
	return h
}

// beat records the answer to h in the model.
func (m *ModelRun) beat(h queue.Heartbeat, b queue.Beat) error {
	t := m.tasks[h.ID]
	if t.status != queue.StatusRetained || h.Token != t.token {
		if !errors.Is(b.Err, queue.ErrLeaseLost) {
			return fmt.Errorf("a stale heartbeat of %d was answered by %+v", t.id, b)
		}
		return nil
	}
	if h.Lease > 0 {
		t.length = h.Lease
	}
	if b.Err != nil || b.CancelRequested != t.asked || b.Lease.Token != t.token || b.Lease.Duration != t.length {
		return fmt.Errorf("a heartbeat of %d (asked %v, length %v) was answered by %+v", t.id, t.asked, t.length, b)
	}
	end := m.now.Add(t.length)
	if h.Lease == 0 && t.expires.After(end) {
		end = t.expires
	}
	if off := b.Lease.ExpiresAt.Sub(end); off.Abs() > leeway {
		return fmt.Errorf("a heartbeat of %d ends at %v, want %v", t.id, b.Lease.ExpiresAt, end)
	}
	t.expires = b.Lease.ExpiresAt
	if len(h.Progress) > 0 {
		t.progress = string(h.Progress)
	}
	return nil
}

// heartbeats sends one call with several heartbeats, some of one task.
func (m *ModelRun) heartbeats() error {
	var beats []queue.Heartbeat
	for _, t := range m.some(2+m.choose.IntN(5), m.wasHeld) {
		beats = append(beats, m.anyBeat(t))
	}
	if len(beats) == 0 {
		return nil
	}
	m.say("heartbeats %s", sayBeats(beats))
	m.now = m.clock()
	out, err := m.s.HeartbeatTasks(m.ctx, modelSpace, beats)
	if err != nil {
		return err
	}
	for i, h := range beats {
		if err := m.beat(h, out[i]); err != nil {
			return err
		}
	}
	return m.compareBeaten(beats)
}

func sayBeats(beats []queue.Heartbeat) (out []string) {
	for _, h := range beats {
		out = append(out, fmt.Sprintf("%d/%d %v %s", h.ID, h.Token, h.Lease, h.Progress))
	}
	return out
}

func (m *ModelRun) compareBeaten(beats []queue.Heartbeat) error {
	for _, h := range beats {
		if err := m.compare(m.tasks[h.ID]); err != nil {
			return err
		}
	}
	return nil
}

// releases sends one call with several releases, some of one task. The first ends the lease; a repeat gets its answer.
func (m *ModelRun) releases() error {
	var rs []queue.Release
	var os []queue.Outcome
	for _, t := range m.some(2+m.choose.IntN(4), m.wasHeld) {
		if t.status != queue.StatusRetained {
			continue
		}
		o := outcomes()[m.choose.IntN(len(outcomes()))]
		rs, os = append(rs, releaseOf(t.id, t.token, o)), append(os, o)
	}
	if len(rs) == 0 {
		return nil
	}
	m.say("releases %+v", rs)
	m.now = m.clock()
	out, err := m.s.ReleaseTasks(m.ctx, modelSpace, rs)
	if err != nil {
		return err
	}
	for i, r := range rs {
		if err := m.released(m.tasks[r.ID], os[i], out[i]); err != nil {
			return err
		}
	}
	return nil
}

// released records the answer to a release of t under its last token in the model.
func (m *ModelRun) released(t *modelTask, o queue.Outcome, answer queue.Released) error {
	if answer.Err != nil || answer.Task == nil {
		return fmt.Errorf("a release of %d (%s) was answered by %+v", t.id, t.status, answer)
	}
	if t.status != queue.StatusRetained { // this call or an earlier one ended the lease
		if !answer.Replayed || string(answer.Task.Status) != t.delivered {
			return fmt.Errorf("a repeat of a release of %d was answered by %+v, want %s", t.id, answer, t.delivered)
		}
		return nil
	}
	if err := m.ended(t, o, answer.Task); err != nil {
		return err
	}
	t.delivered = string(answer.Task.Status)
	return nil
}

// callers makes several callers send heartbeats at once through the manager's batcher. The order of two callers is
// unknown, so either of two heartbeats of one task may be the last.
func (m *ModelRun) callers() error {
	if m.shared == nil {
		return nil
	}
	var beats []queue.Heartbeat
	for _, t := range m.some(2+m.choose.IntN(5), m.wasHeld) {
		if t.status == queue.StatusRetained {
			h := m.anyBeat(t)
			h.Token = t.token
			beats = append(beats, h)
		}
	}
	m.say("callers beat %s", sayBeats(beats))
	m.now = m.clock()
	answers := make([]queue.Beat, len(beats))
	errs := make([]error, len(beats))
	var wg sync.WaitGroup
	for i, h := range beats {
		wg.Go(func() {
			out, err := m.shared.HeartbeatTasks(m.ctx, []queue.Heartbeat{h})
			if errs[i] = err; err == nil {
				answers[i] = out[0]
			}
		})
	}
	wg.Wait()
	for i, h := range beats {
		t := m.tasks[h.ID]
		if err := errors.Join(errs[i], answers[i].Err); err != nil {
			return fmt.Errorf("a caller's heartbeat of %d: %w", t.id, err)
		}
	}
	// Read the length and the progress that the last heartbeat of each task left.
	for _, h := range beats {
		if err := m.learn(m.tasks[h.ID], beats); err != nil {
			return err
		}
	}
	return nil
}

// learn reads the lease and the progress of t from the store after heartbeats in an unknown order.
func (m *ModelRun) learn(t *modelTask, beats []queue.Heartbeat) error {
	lengths, progress := []time.Duration{}, []string{}
	for _, h := range beats {
		if h.ID != t.id {
			continue
		}
		if h.Lease > 0 {
			lengths = append(lengths, h.Lease)
		}
		if len(h.Progress) > 0 {
			progress = append(progress, string(h.Progress))
		}
	}
	if len(lengths) == 0 {
		lengths = append(lengths, t.length)
	}
	if len(progress) == 0 {
		progress = append(progress, t.progress)
	}
	out, err := m.s.HeartbeatTasks(m.ctx, modelSpace, []queue.Heartbeat{{ID: t.id, Token: t.token}})
	if err == nil {
		err = out[0].Err
	}
	if err != nil {
		return fmt.Errorf("a heartbeat of %d behind those of callers: %w", t.id, err)
	}
	if t.length = out[0].Lease.Duration; !slices.Contains(lengths, t.length) {
		return fmt.Errorf("task %d has a lease of %v, want one of %v", t.id, t.length, lengths)
	}
	t.expires = out[0].Lease.ExpiresAt
	got, err := m.find(t.id)
	if err != nil || got == nil {
		return fmt.Errorf("task %d: %+v, %w", t.id, got, err)
	}
	if t.progress = string(got.Progress); !slices.Contains(progress, t.progress) {
		return fmt.Errorf("task %d has progress %s, want one of %s", t.id, t.progress, progress)
	}
	return m.compare(t)
}

// locked lets another transaction lock the rows of a held task. Meanwhile one call sends heartbeats and another
// releases for locked and free tasks. Free tasks get their answers, locked tasks lose nothing, and no call waits.
func (m *ModelRun) locked() error {
	if m.h.Lock == nil {
		return nil
	}
	t := m.pick(func(t *modelTask) bool { return t.status == queue.StatusRetained })
	if t == nil {
		return nil
	}
	locked, unlock := m.h.Lock(m.t, m.s, t.id)
	held := true
	defer func() {
		if held {
			unlock()
		}
	}()
	now := queue.WithoutWait(m.ctx)

	beats := []queue.Heartbeat{{ID: t.id, Token: t.token}}
	for _, other := range m.some(3, m.wasHeld) {
		if other.status == queue.StatusRetained {
			beats = append(beats, queue.Heartbeat{ID: other.id, Token: other.token, Lease: time.Duration(m.choose.IntN(3)) * 4 * time.Hour})
		}
	}
	m.say("heartbeats %s while %v are locked", sayBeats(beats), locked)
	m.now = m.clock()
	out, err := m.s.HeartbeatTasks(now, modelSpace, beats)
	if err != nil {
		return err
	}
	for i, h := range beats {
		// A lapsed lease may have been rescued already, and a lease cannot be shortened while its row is locked.
		t := m.tasks[h.ID]
		open := !t.expires.After(m.now.Add(leeway)) || h.Lease > 0 && m.now.Add(h.Lease).Before(t.expires.Add(leeway))
		if slices.Contains(locked, h.ID) && open && queue.IsLocked(out[i].Err) {
			continue
		}
		if err := m.beat(h, out[i]); err != nil {
			return fmt.Errorf("while %v are locked: %w", locked, err)
		}
	}

	var rs []queue.Release
	for _, other := range append([]*modelTask{t}, m.some(3, m.wasHeld)...) {
		if other.status == queue.StatusRetained {
			rs = append(rs, releaseOf(other.id, other.token, queue.OutcomeSuccess))
		}
	}
	m.say("releases %+v while %v are locked", rs, locked)
	m.now = m.clock()
	ended, err := m.s.ReleaseTasks(now, modelSpace, rs)
	if err != nil {
		return err
	}
	for i, r := range rs {
		if slices.Contains(locked, r.ID) {
			if !queue.IsLocked(ended[i].Err) {
				return fmt.Errorf("a release of %d, which is locked, was answered by %+v", r.ID, ended[i])
			}
			continue
		}
		if err := m.released(m.tasks[r.ID], queue.OutcomeSuccess, ended[i]); err != nil {
			return fmt.Errorf("while %v are locked: %w", locked, err)
		}
	}
	unlock()
	held = false
	for _, h := range beats {
		if err := m.compare(m.tasks[h.ID]); err != nil {
			return err
		}
	}
	return nil
}

// audit looks for rows that contradict each other.
func (m *ModelRun) audit() error {
	if m.h.Audit == nil {
		return nil
	}
	return m.h.Audit(context.WithoutCancel(m.ctx), m.s)
}
