package queue_test

import (
	"math"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestScaleQueues(t *testing.T) {
	stats := func(retained, ready int64, finished float64, change ...func(*queue.QueueStats)) *queue.QueueStats {
		s := &queue.QueueStats{Counts: map[queue.Status]int64{queue.StatusRetained: retained}, Ready: ready, FinishedPerSecond: finished}
		for _, c := range change {
			c(s)
		}
		return s
	}
	paused := func(s *queue.QueueStats) { s.Paused = true }
	limited := func(n int) func(*queue.QueueStats) { return func(s *queue.QueueStats) { s.Concurrency = n } }
	for name, c := range map[string]struct {
		s    *queue.QueueStats
		want float64
	}{
		"nothing to do":                                      {stats(0, 0, 0), 0},
		"the last tasks are in hand":                         {stats(3, 0, 2), 3},
		"a backlog of tasks of an unknown length":            {stats(0, 100, 0), 100},
		"1,000 ready tasks of 10 ms want a third of a slot":  {stats(1, 1000, 100), 1 + 1000*0.01/30},
		"tasks longer than the time want a slot each":        {stats(10, 5, 10.0/60), 15},
		"one ready task wants a slot":                        {stats(0, 1, 1000), 1},
		"a paused queue keeps the tasks in hand":             {stats(4, 1000, 1, paused), 4},
		"a limited queue wants no more than its limit":       {stats(2, 1000, 0, limited(20)), 20},
		"a lowered limit cuts no slot with a task in hand":   {stats(30, 1000, 1, limited(20)), 30},
		"no task finished in the last minute, some in hand":  {stats(5, 5, 0), 10},
		"no task in hand at this moment, many have finished": {stats(0, 1000, 500), 1},
	} {
		if got := queue.ScaleQueues(30*time.Second, c.s); math.Abs(got.Slots-c.want) > 1e-9 {
			t.Errorf("%s: %v slots, want %v", name, got.Slots, c.want)
		}
	}
	if got := queue.ScaleQueues(30*time.Second, stats(2, 3, 0), stats(1, 1, 0)); got != (queue.Scale{Slots: 7, Ready: 4, Retained: 3}) {
		t.Errorf("two queues: %+v", got)
	}
	for d, ok := range map[time.Duration]bool{0: false, time.Second: true, time.Millisecond: false, -1: false, 25 * time.Hour: false} {
		if err := queue.CheckScaleWithin(d); (err == nil) != ok {
			t.Errorf("%v: %v", d, err)
		}
	}
}

// scaled is the state of a model of a queue.
type scaled struct {
	backlog, held, finished float64 // finished tasks a second of the last minute
	recent                  []float64
}

// TestScaleDoesNotOscillate lets a model of the autoscaler of Kubernetes follow the slots over six shapes of load. Tasks must not
// pile up, the number of replicas must not swing, and both must end at none.
func TestScaleDoesNotOscillate(t *testing.T) {
	const concurrency, length = 10.0, 2.0 // tasks of 2 s, 10 at once in a replica
	loads := map[string]func(second int) float64{
		"steady":    func(int) float64 { return 20 },
		"a burst":   func(s int) float64 { return map[bool]float64{true: 5000}[s == 60] },
		"a step up": func(s int) float64 { return map[bool]float64{true: 50, false: 5}[s >= 300] },
		"a wave":    func(s int) float64 { return 20 + 15*math.Sin(float64(s)/300) },
		"a trickle": func(s int) float64 { return map[bool]float64{true: 1}[s%20 == 0] },
		"on, off":   func(s int) float64 { return map[bool]float64{true: 30}[s/300%2 == 0] },
	}
	for name, load := range loads {
		t.Run(name, func(t *testing.T) {
			q, replicas := scaled{}, 0.0
			var history []float64 // wanted replicas of the last 5 minutes: the stabilisation of a scale-down
			turns, last, worst := 0, 0.0, 0.0
			for second := range 1800 {
				if second < 1200 {
					q.backlog += load(second)
				}
				slots := replicas * concurrency
				done := min(q.held, q.held/length)
				q.held -= done
				taken := max(0, min(q.backlog, slots-q.held))
				q.backlog, q.held = q.backlog-taken, q.held+taken
				if q.recent = append(q.recent, done); len(q.recent) > 60 {
					q.recent = q.recent[1:]
				}
				sum := 0.0
				for _, n := range q.recent {
					sum += n
				}
				q.finished = sum / 60

				if second%15 == 0 { // the interval of the autoscaler
					s := queue.ScaleQueues(30*time.Second, &queue.QueueStats{
						Counts: map[queue.Status]int64{queue.StatusRetained: int64(math.Round(q.held))}, Ready: int64(math.Round(q.backlog)), FinishedPerSecond: q.finished,
					})
					if history = append(history, math.Ceil(s.Slots/concurrency)); len(history) > 20 {
						history = history[1:]
					}
					want := 0.0
					for _, h := range history {
						want = max(want, h)
					}
					if (want-replicas)*last < 0 {
						turns++
					}
					if want != replicas {
						last = want - replicas
					}
					replicas = want
				}
				if second > 400 && second < 1200 {
					worst = max(worst, q.backlog)
				}
			}
			if q.backlog > 0.5 || replicas != 0 {
				t.Errorf("at the end %.1f tasks wait and %v replicas run", q.backlog, replicas)
			}
			if turns > 4 {
				t.Errorf("the number of replicas changed its direction %d times", turns)
			}
			if worst > 500 {
				t.Errorf("%.0f tasks waited", worst)
			}
		})
	}
}
