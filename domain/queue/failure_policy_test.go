package queue

import (
	"testing"
	"time"
)

func TestLostLeases(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	strict := Queue{Retries: 2, RetryDelay: time.Minute, Backoff: BackoffConstant, FailurePolicy: FailurePolicy{MaxLeaseLosses: 3}}
	plain := strict
	plain.MaxLeaseLosses = 0
	held := Life{Status: StatusRetained, Attempt: 4, Retries: 1, Losses: 1}
	for name, c := range map[string]struct {
		q      Queue
		life   Life
		move   Move
		kind   string // of the error
		status Status
		losses int16
		left   int // retries
	}{
		"a loss is counted and costs no retry":      {strict, held, MoveLeaseLost, ErrorKindLeaseLost, StatusRetry, 2, 1},
		"the last loss quarantines":                 {strict, Life{Status: StatusRetained, Retries: 1, Losses: 2}, MoveLeaseLost, ErrorKindQuarantined, StatusFailed, 3, 1},
		"a lowered limit quarantines":               {strict, Life{Status: StatusRetained, Losses: 7}, MoveLeaseLost, ErrorKindQuarantined, StatusFailed, 8, 0},
		"a loss needs no retry":                     {strict, Life{Status: StatusRetained}, MoveLeaseLost, ErrorKindLeaseLost, StatusRetry, 1, 0},
		"a requested cancel wins":                   {strict, Life{Status: StatusRetained, Losses: 2, CancelRequested: true}, MoveLeaseLost, ErrorKindLeaseLost, StatusCancelled, 3, 0},
		"the ttl wins":                              {strict, Life{Status: StatusRetained, Losses: 2, DiesAt: at}, MoveLeaseLost, ErrorKindLeaseLost, StatusExpired, 2, 0},
		"off, a loss costs a retry":                 {plain, held, MoveLeaseLost, ErrorKindLeaseLost, StatusRetry, 0, 0},
		"off, the last loss is a failure":           {plain, Life{Status: StatusRetained, Losses: 9}, MoveLeaseLost, ErrorKindLeaseLost, StatusFailed, 0, 0},
		"a failure begins the count anew":           {strict, held, MoveFail, ErrorKindLeaseLost, StatusRetry, 0, 0},
		"a failure for good does not quarantine":    {strict, Life{Status: StatusRetained, Losses: 2}, MoveFail, ErrorKindLeaseLost, StatusFailed, 0, 0},
		"a hand-back begins the count anew":         {strict, held, MoveHandBack, ErrorKindLeaseLost, StatusRetry, 0, 1},
		"a snooze begins the count anew":            {strict, held, MoveSnooze, ErrorKindLeaseLost, StatusRetry, 0, 1},
		"a retain keeps the count":                  {strict, Life{Status: StatusRetry, Losses: 2}, MoveRetain, ErrorKindLeaseLost, StatusRetained, 2, 0},
		"an operator's retry begins the count anew": {strict, Life{Status: StatusFailed, Losses: 3}, MoveRetry, ErrorKindLeaseLost, StatusNew, 0, 2},
	} {
		got, err := c.q.Moved(c.life, c.move, Circumstances{Now: at})
		if err != nil || got.Status != c.status || got.Losses != c.losses || got.Retries != c.left || got.IsSuspect() != (c.losses > 0) {
			t.Errorf("%s: %+v (%v)", name, got, err)
		}
		if kind := c.q.KindOfLoss(got); kind != c.kind {
			t.Errorf("%s: the kind is %q, want %q", name, kind, c.kind)
		}
		if event := c.q.EventOfLoss(got); (event == EventQuarantined) != (c.kind == ErrorKindQuarantined) || event.Status() != got.Status {
			if c.move == MoveLeaseLost {
				t.Errorf("%s: the event is %q", name, event)
			}
		}
	}

	last, err := strict.Moved(Life{Status: StatusRetry, Attempt: MaxAttempt}, MoveRetain, Circumstances{Now: at})
	if err != nil || last.Attempt != MaxAttempt {
		t.Errorf("attempt %d (%v), want that the count stops at %d", last.Attempt, err, MaxAttempt)
	}
}
