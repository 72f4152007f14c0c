package queue_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestFindUpcoming(t *testing.T) {
	at := func(hour, minute int) time.Time { return time.Date(2026, 3, 29, hour, minute, 0, 0, time.UTC) }
	ticker := func(name, cron, zone string, next time.Time) *queue.Ticker {
		return &queue.Ticker{Name: name, Queue: "q-" + name, Cron: cron, Timezone: zone, NextAt: next}
	}
	tickers := []*queue.Ticker{
		ticker("night", "30 2 * * *", "Europe/Berlin", at(1, 0)), // 02:30 does not exist on that day
		ticker("hourly", "0 * * * *", "", at(1, 0)),
		{Name: "period", Period: 90 * time.Minute, Anchor: at(0, 0), NextAt: at(1, 30)},
		{Name: "paused", Cron: "* * * * *", Paused: true},
		ticker("broken", "* * * * *", "No/Where", at(1, 0)),
		ticker("later", "0 0 1 1 *", "", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	show := func(u *queue.Upcoming) string {
		var out []string
		for _, tick := range u.Ticks {
			out = append(out, tick.Ticker+" "+tick.At.Format("15:04"))
		}
		return strings.Join(out, ", ")
	}

	u := queue.FindUpcoming(tickers, queue.UpcomingQuery{Until: at(4, 0), Limit: 100})
	if got, want := show(u), "hourly 01:00, night 01:00, period 01:30, hourly 02:00, hourly 03:00, period 03:00"; got != want || u.More {
		t.Errorf("got %s, more %v; want %s", got, u.More, want)
	}
	if u.Ticks[1].Queue != "q-night" || u.Ticks[2].Queue != "" || !u.Until.Equal(at(4, 0)) {
		t.Errorf("got %+v", u)
	}
	u = queue.FindUpcoming(tickers, queue.UpcomingQuery{Until: at(4, 0), Limit: 3})
	if got := show(u); got != "hourly 01:00, night 01:00, period 01:30" || !u.More {
		t.Errorf("got %s, more %v", got, u.More)
	}
	u = queue.FindUpcoming(tickers, queue.UpcomingQuery{Until: at(4, 0), Limit: 100, PerTicker: 1})
	if got := show(u); got != "hourly 01:00, night 01:00, period 01:30" || u.More {
		t.Errorf("one of each ticker: got %s, more %v", got, u.More)
	}
	if u = queue.FindUpcoming(nil, queue.UpcomingQuery{Until: at(4, 0), Limit: 3}); len(u.Ticks) != 0 || u.Ticks == nil || u.More {
		t.Errorf("got %+v", u)
	}
}

func TestUpcomingQueryIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	q, err := queue.UpcomingQuery{}.Normalize(now)
	if err != nil || q.Limit != queue.DefaultPage || !q.Until.Equal(now.Add(24*time.Hour)) {
		t.Errorf("got %+v, %v", q, err)
	}
	for field, bad := range map[string]queue.UpcomingQuery{
		"limit": {Limit: queue.MaxPreview + 1}, "per_ticker": {PerTicker: -1}, "until": {Until: now.Add(queue.MaxDuration + time.Second)},
	} {
		if _, err := bad.Normalize(now); err == nil || !strings.Contains(fmt.Sprint(err), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

// TestUpcomingNameIsReserved: the route of all tickers has the place of a ticker of that name.
func TestUpcomingNameIsReserved(t *testing.T) {
	for _, name := range []string{"next", "upcoming", " Upcoming "} {
		if _, err := queue.TickerName(name); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%q: got %v", name, err)
		}
	}
}
