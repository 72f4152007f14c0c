package queue

import (
	"cmp"
	"container/heap"
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

// UpcomingQuery selects the next fires of the tickers of a namespace.
type UpcomingQuery struct {
	// Until is the end, exclusive; zero = a day from now.
	Until time.Time
	// Limit is the most fires, up to MaxPreview; 0 = DefaultPage.
	Limit int
	// PerTicker is the most fires of one ticker, so that one that fires each second does not hide the others; 0 = no limit.
	PerTicker int
}

// upcomingTime is the time of an UpcomingQuery without an end.
const upcomingTime = 24 * time.Hour

// Normalize checks q and fills in its defaults at now.
func (q UpcomingQuery) Normalize(now time.Time) (UpcomingQuery, error) {
	q.Limit = cmp.Or(q.Limit, DefaultPage)
	if q.Until.IsZero() {
		q.Until = now.Add(upcomingTime)
	}
	if q.Until.Sub(now) > MaxDuration {
		return q, Invalid("until", fmt.Sprintf("must be a time within 10 years, got %.64q; name an earlier one", q.Until.UTC().Format(time.RFC3339)))
	}
	return q, cmp.Or(CheckTime("until", q.Until), CheckInt("limit", q.Limit, 1, MaxPreview), CheckInt("per_ticker", q.PerTicker, 0, MaxPreview))
}

// UpcomingTick is a fire of a ticker that is still to come.
type UpcomingTick struct {
	Ticker string
	// Queue is the queue in which the fire becomes a task; "" for a ticker that has listeners alone.
	Queue string
	// At is the nominal time.
	At time.Time
}

// Upcoming are the next fires, in the order of their times, then of the names of tickers.
type Upcoming struct {
	Until time.Time
	Ticks []UpcomingTick
	// More says that Limit left out fires before Until; those beyond PerTicker do not count.
	More bool
}

// FindUpcoming returns the next fires of tickers by q, after Normalize. A paused ticker has none, nor has one with a schedule
// that this host cannot read. A fire that is late is the first. It is a pure function.
func FindUpcoming(tickers []*Ticker, q UpcomingQuery) *Upcoming {
	var next fires
	for _, t := range tickers {
		s, err := t.Schedule()
		if err == nil && !t.Paused && !t.NextAt.IsZero() && t.NextAt.Before(q.Until) {
			next = append(next, fire{t, s, t.NextAt, 0})
		}
	}
	heap.Init(&next)

	out := &Upcoming{Until: q.Until.UTC(), Ticks: []UpcomingTick{}}
	for len(next) > 0 {
		if len(out.Ticks) == q.Limit {
			out.More = true
			break
		}

		// The heap has one fire for each ticker, so the memory does not grow with the length of the time.
		first := &next[0]
		out.Ticks = append(out.Ticks, UpcomingTick{Ticker: first.ticker.Name, Queue: first.ticker.Queue, At: first.at.UTC()})
		first.given++
		at, ok := first.schedule.Next(first.ticker.Anchor, first.at)
		if !ok || !at.Before(q.Until) || first.given == q.PerTicker {
			heap.Pop(&next)
			continue
		}
		first.at = at
		heap.Fix(&next, 0)
	}
	return out
}

// fire is the next fire of one ticker.
type fire struct {
	ticker   *Ticker
	schedule schedule.Schedule
	at       time.Time
	given    int // fires of the ticker before this one
}

// fires is a heap of fires by time, then by the name of the ticker. It implements heap.Interface.
type fires []fire

func (f fires) Len() int { return len(f) }

func (f fires) Less(i, j int) bool {
	return cmp.Or(f[i].at.Compare(f[j].at), cmp.Compare(f[i].ticker.Name, f[j].ticker.Name)) < 0
}

func (f fires) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

func (f *fires) Push(x any) { *f = append(*f, x.(fire)) } //nolint:forcetypeassert // container/heap passes what Pop returned

func (f *fires) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}
