package worker

import "slices"

// A FIFO queue gives several tasks of a group in one answer. They form a chain: the first one waits for a slot, and each
// other one for the success of the one before it. Any other end hands back the rest. A task that waits so has a lease that
// the heartbeater extends, and takes no slot.

// groupName names a group.
type groupName struct{ queue, group string }

// chainEnds maps each group of an answer to the last task of its chain; nil = the rest of the group goes back.
type chainEnds map[groupName]*heldTask

// append makes h wait for the task of its group before it, and reports whether it does so, or goes back. It returns false for the
// first task of a group, and for one without an order. The caller holds run.mu.
func (e *chainEnds) append(h *heldTask) bool {
	if !h.task.Lease.InOrder {
		return false
	}
	if *e == nil {
		*e = chainEnds{}
	}

	name := groupName{h.info.Queue, h.task.Group}
	last, known := (*e)[name]
	switch {
	case !known:
		(*e)[name] = h
		return false
	// A task before it went back, and a later one must not pass it.
	case last == nil:
		h.run.handBackTask(h)
	default:
		last.next, h.chained = h, true
		h.pool.chained++
		(*e)[name] = h
	}
	return true
}

// breakAt makes the tasks of the group behind h go back, because the worker does not hold h.
func (e *chainEnds) breakAt(h *heldTask) {
	if !h.task.Lease.InOrder {
		return
	}
	if *e == nil {
		*e = chainEnds{}
	}
	(*e)[groupName{h.info.Queue, h.task.Group}] = nil
}

// unchain records that h waits no longer for the task before it. The caller holds run.mu.
func (h *heldTask) unchain() {
	h.chained = false
	h.pool.chained--
}

// startNext makes the task behind h ready, before all others, unless it went back. The caller holds run.mu and frees the slot of h.
func (l *slotPool) startNext(h *heldTask) {
	next := h.next
	if !next.chained {
		return
	}

	next.unchain()
	// The place of the task that left the front is free, so the usual case moves no element.
	if l.head > 0 {
		l.head--
		l.ready[l.head] = next
		return
	}
	l.ready = slices.Insert(l.ready, 0, next)
}

// handBackBehind hands back the tasks that wait for h, and for those behind it. The caller holds mu.
func (r *run) handBackBehind(h *heldTask) {
	for next := h.next; next != nil; next = next.next {
		if next.chained {
			next.unchain()
			r.handBackTask(next)
		}
	}
}

// endOrder hands back the tasks behind h, because h has ended without its outcome: it comes again.
func (r *run) endOrder(h *heldTask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handBackBehind(h)
}

// handBackChained hands back the tasks of a queue that wait for the one before them; "" = of any queue. The caller holds
// run.mu.
func (l *slotPool) handBackChained(name string) {
	if l.chained == 0 {
		return
	}
	for _, h := range l.run.held {
		if h.chained && h.pool == l && (name == "" || h.info.Queue == name) {
			h.unchain()
			l.run.handBackTask(h)
		}
	}
}
