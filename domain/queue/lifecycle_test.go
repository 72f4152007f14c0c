package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func allMoves() []Move {
	return []Move{
		MoveCreate, MoveRetain, MoveRelease, MoveFail, MoveHandBack, MoveSnooze, MoveLeaseLost, MoveExpire, MoveCancel,
		MoveRetry, MovePrune,
	}
}

// TestMoved walks every status and every move under every circumstance, and holds the rules to the table: a move that
// it has leads where one of its rows says, any other is refused and changes nothing.
func TestMoved(t *testing.T) {
	q := Queue{Retries: 3, RetryDelay: time.Hour, Backoff: BackoffConstant, TTL: 24 * time.Hour}
	reached := map[Transition]bool{}
	for _, from := range Statuses() {
		for _, move := range allMoves() {
			t.Run(fmt.Sprintf("%s by %s", from, move), func(t *testing.T) {
				for _, c := range lives(from) {
					got, err := q.Moved(c.life, move, c.at)
					if err != nil {
						if !errors.Is(err, ErrConflict) || got != c.life {
							t.Fatalf("%+v was refused with %v and became %+v", c.life, err, got)
						}
						continue
					}
					row := slices.IndexFunc(Transitions(), func(r Transition) bool {
						return r.From == from && r.Move == move && r.To == got.Status
					})
					if row < 0 {
						t.Fatalf("%+v became %+v, which the table does not have", c.life, got)
					}
					reached[Transitions()[row]] = true
					sound(t, c.life, got, move, c.at.Now)
				}
			})
		}
	}
	for _, row := range Transitions() {
		if row.Move != MoveCreate && row.Move != MovePrune && !reached[row] {
			t.Errorf("no circumstance makes the row %+v", row)
		}
	}
}

type circumstance struct {
	life Life
	at   Circumstances
}

// lives are lives of a status under all circumstances.
func lives(s Status) []circumstance {
	var out []circumstance
	for _, attempt := range []int{0, 1, 2, 7} {
		if s == StatusRetained && attempt == 0 {
			continue
		}
		for _, retries := range []int{0, 1, 3} {
			for _, due := range []time.Time{{}, noon.Add(-time.Hour), noon, noon.Add(time.Hour)} {
				for _, dies := range []time.Time{{}, noon.Add(-time.Hour), noon, noon.Add(time.Hour)} {
					for _, asked := range []bool{false, true} {
						if asked && s != StatusRetained {
							continue
						}
						for _, permanent := range []bool{false, true} {
							l := Life{Status: s, Attempt: attempt, Retries: retries, DelayedAt: due, DiesAt: dies, CancelRequested: asked}
							if s.Finished() {
								l.FinishedAt = noon.Add(-time.Minute)
							}
							out = append(out, circumstance{l, Circumstances{Now: noon, Permanent: permanent, Delay: time.Minute, Jitter: 0.5}})
						}
					}
				}
			}
		}
	}
	return out
}

// sound checks what is true of every move.
func sound(t *testing.T, before, after Life, move Move, now time.Time) {
	t.Helper()
	bad := func(what string) { t.Helper(); t.Fatalf("%s by %s: %+v became %+v", what, move, before, after) }
	if after.Status.Finished() != !after.FinishedAt.IsZero() {
		bad("finished without a time, or the other way round")
	}
	if after.Status.Finished() && !before.Status.Finished() && !after.FinishedAt.Equal(now) {
		bad("finished at another time")
	}
	if after.CancelRequested && after.Status != StatusRetained {
		bad("a cancel request outlived its hold")
	}
	if before.CancelRequested && after.Status != StatusRetained && after.Status != StatusCancelled {
		bad("a cancel request was forgotten")
	}
	if after.Retries < 0 || after.Attempt < 0 {
		bad("counted below 0")
	}
	if after.Status == StatusRetained && move == MoveRetain && (now.Before(before.DelayedAt) || Expired(before, now)) {
		bad("retained early or late")
	}
	if after.Status == StatusExpired && !Expired(before, now) {
		bad("expired before its time")
	}
	if move != MoveRetry && !after.DiesAt.Equal(before.DiesAt) {
		bad("another time to die")
	}
}

func TestMovedDetails(t *testing.T) {
	q := Queue{Retries: 2, RetryDelay: time.Hour, Backoff: BackoffExponential, TTL: 10 * time.Hour}
	held := Life{Status: StatusRetained, Attempt: 3, Retries: 2, DiesAt: noon.Add(time.Hour)}
	move := func(l Life, m Move, c Circumstances) Life {
		t.Helper()
		c.Now, c.Jitter = noon, 0.5
		got, err := q.Moved(l, m, c)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct {
		name      string
		got, want Life
	}{
		{
			"a failure takes a retry and waits for its backoff", move(held, MoveFail, Circumstances{}),
			Life{Status: StatusRetry, Attempt: 3, Retries: 1, DelayedAt: noon.Add(4 * time.Hour), DiesAt: held.DiesAt},
		},
		{
			"a failure with a delay waits for that", move(held, MoveFail, Circumstances{Delay: time.Minute}),
			Life{Status: StatusRetry, Attempt: 3, Retries: 1, DelayedAt: noon.Add(time.Minute), DiesAt: held.DiesAt},
		},
		{
			"a permanent failure takes no retry", move(held, MoveFail, Circumstances{Permanent: true}),
			Life{Status: StatusFailed, Attempt: 3, Retries: 2, DiesAt: held.DiesAt, FinishedAt: noon},
		},
		{
			"an expired lease waits for the backoff, with any delay", move(held, MoveLeaseLost, Circumstances{Delay: 1, Permanent: true}),
			Life{Status: StatusRetry, Attempt: 3, Retries: 1, DelayedAt: noon.Add(4 * time.Hour), DiesAt: held.DiesAt},
		},
		{
			"a hand back takes the attempt back", move(held, MoveHandBack, Circumstances{}),
			Life{Status: StatusRetry, Attempt: 2, Retries: 2, DiesAt: held.DiesAt},
		},
		{
			"a snooze takes the attempt back and waits", move(held, MoveSnooze, Circumstances{Delay: time.Minute}),
			Life{Status: StatusRetry, Attempt: 2, Retries: 2, DelayedAt: noon.Add(time.Minute), DiesAt: held.DiesAt},
		},
		{
			"an operator's retry starts again", move(Life{Status: StatusFailed, Attempt: 9, FinishedAt: noon, DelayedAt: noon}, MoveRetry, Circumstances{}),
			Life{Status: StatusNew, Retries: 2, DiesAt: noon.Add(10 * time.Hour)},
		},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, c.got, c.want)
		}
	}
}

func TestBorn(t *testing.T) {
	with, without := Queue{Retries: 5, TTL: time.Hour}, Queue{}
	for _, c := range []struct {
		name string
		got  Life
		want Life
	}{
		{"at once", with.Born(noon, time.Time{}), Life{Status: StatusNew, Retries: 5, DiesAt: noon.Add(time.Hour)}},
		{"later: the ttl counts from then", with.Born(noon, noon.Add(time.Hour)), Life{Status: StatusNew, Retries: 5, DelayedAt: noon.Add(time.Hour), DiesAt: noon.Add(2 * time.Hour)}},
		{"past: the ttl counts from now", with.Born(noon, noon.Add(-time.Hour)), Life{Status: StatusNew, Retries: 5, DelayedAt: noon.Add(-time.Hour), DiesAt: noon.Add(time.Hour)}},
		{"without a ttl it never dies", without.Born(noon, time.Time{}), Life{Status: StatusNew}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, c.got, c.want)
		}
	}
}

// TestTransitions holds the table to the contract's.
func TestTransitions(t *testing.T) {
	seen := map[Transition]bool{}
	for _, r := range Transitions() {
		key := Transition{From: r.From, Move: r.Move, To: r.To}
		if seen[key] {
			t.Errorf("the row %+v is there twice", r)
		}
		seen[key] = true
		if r.From != "" && !r.From.Valid() || r.To != "" && !r.To.Valid() || !slices.Contains(allMoves(), r.Move) {
			t.Errorf("the row %+v has an unknown word", r)
		}
		if !Allowed(r.From, r.Move) {
			t.Errorf("the row %+v is not allowed", r)
		}
		if r.From.Finished() && r.Move != MoveRetry && r.Move != MovePrune {
			t.Errorf("the row %+v moves what is finished", r)
		}
	}
	if len(seen) != 31 {
		t.Errorf("the table has %d rows, the contract's has 31", len(seen))
	}
	Transitions()[0].To = "spoilt"
	if Transitions()[0].To == "spoilt" {
		t.Error("a caller can change the table")
	}
}

func TestLifeOfTask(t *testing.T) {
	l := Life{Status: StatusRetry, Attempt: 2, Retries: 1, DelayedAt: noon, DiesAt: noon, FinishedAt: noon, CancelRequested: true}
	var task Task
	task.SetLife(l)
	if task.Life() != l {
		t.Errorf("put in %+v, got out %+v", l, task.Life())
	}
}

func TestStatuses(t *testing.T) {
	for _, s := range Statuses() {
		n := 0
		for _, is := range []bool{s.Waiting(), s == StatusRetained, s.Finished()} {
			if is {
				n++
			}
		}
		if n != 1 || !s.Valid() {
			t.Errorf("%s is %d of waiting, retained, finished", s, n)
		}
	}
	if Status("").Valid() || Status("done").Valid() {
		t.Error("an unknown status is valid")
	}
}
