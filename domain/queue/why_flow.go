package queue

import "fmt"

// explainTime is the reason for which the queue starts no task before a time.
func (f Facts) explainTime() Reason {
	if f.Now.Before(f.Queue.PausedUntil) {
		return Reason{
			Code: ReasonPausedUntil, Until: f.Queue.PausedUntil,
			Text:   fmt.Sprintf("The queue is paused until %s: a worker reported that the other side asked for it.", formatMoment(f.Queue.PausedUntil)),
			Advice: "Resume the queue to end the pause now.",
		}
	}
	return Reason{
		Code: ReasonRate, Until: f.NextStart,
		Text:   fmt.Sprintf("The queue starts at most %d tasks in %v. More may start at %s.", f.Queue.RateLimit, f.Queue.RatePeriod, formatMoment(f.NextStart)),
		Advice: "Raise the rate limit of the queue if the tasks need not be so slow.",
	}
}

// explainGroup is the reason for which the group of the task holds it up; false when it does not.
func (f Facts) explainGroup() (Reason, bool) {
	g := f.Group
	if g == nil {
		return Reason{}, false
	}

	// The order of the cases is that of Admit: the first rule that refuses the task is the reason.
	limits := f.Queue.LimitsOf(g.GroupPolicy)
	switch {
	case f.Now.Before(g.PausedUntil):
		return Reason{
			Code: ReasonGroupPaused, Until: g.PausedUntil,
			Text:   fmt.Sprintf("The group of the task is paused until %s.", formatMoment(g.PausedUntil)),
			Advice: "Resume the group to end the pause now.",
		}, true
	case g.Blocked != 0 && g.Blocked != f.Task.ID:
		return Reason{
			Code:   ReasonGroupBlocked,
			Text:   fmt.Sprintf("Task %d of the group failed, and the queue blocks a group after a failure.", g.Blocked),
			Advice: "Retry or delete that task, or unblock the group.",
		}, true
	case limits.FIFO && g.Retained > 0:
		return Reason{
			Code: ReasonGroupOrder, Text: "An earlier task of the group has not ended, and the queue runs them one after the other.",
			Advice: "Look at the first task of the group that has not ended.",
		}, true
	case !limits.FIFO && limits.Concurrency > 0 && g.Retained >= int64(limits.Concurrency):
		return Reason{
			Code:   ReasonGroupConcurrency,
			Text:   fmt.Sprintf("The number of retained tasks of the group is %d, and its concurrency is %d.", g.Retained, limits.Concurrency),
			Advice: "Wait for a release, or raise the concurrency of the group.",
		}, true
	case !g.Next.IsZero():
		return Reason{
			Code: ReasonGroupRate, Until: g.Next,
			Text:   fmt.Sprintf("The group starts at most %d tasks in %v. More may start at %s.", limits.Rate.Limit, limits.Rate.Period, formatMoment(g.Next)),
			Advice: "Raise the rate limit of the group if the tasks need not be so slow.",
		}, true
	}
	return Reason{}, false
}
