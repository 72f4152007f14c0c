package queue_test

import (
	"math"
	"slices"
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
	pausedUntil := func(s *queue.QueueStats) { s.PausedUntil = time.Unix(1, 0) }
	rate := func(perSecond float64) func(*queue.QueueStats) {
		return func(s *queue.QueueStats) { s.StartsPerSecond = perSecond }
	}
	limited := func(n int) func(*queue.QueueStats) { return func(s *queue.QueueStats) { s.Concurrency = n } }
	for name, c := range map[string]struct {
		s    *queue.QueueStats
		want float64
	}{
		"nothing to do":                                          {stats(0, 0, 0), 0},
		"the last tasks are in hand":                             {stats(3, 0, 2), 3},
		"a backlog of tasks of an unknown length":                {stats(0, 100, 0), 100},
		"1,000 ready tasks of 10 ms want a third of a slot":      {stats(1, 1000, 100), 1 + 1000*0.01/30},
		"tasks longer than the time want a slot each":            {stats(10, 5, 10.0/60), 15},
		"one ready task wants a slot":                            {stats(0, 1, 1000), 1},
		"a paused queue keeps the tasks in hand":                 {stats(4, 1000, 1, paused), 4},
		"a limited queue wants no more than its limit":           {stats(2, 1000, 0, limited(20)), 20},
		"a lowered limit cuts no slot with a task in hand":       {stats(30, 1000, 1, limited(20)), 30},
		"no task finished in the last minute, some in hand":      {stats(5, 5, 0), 10},
		"no task in hand at this moment, many have finished":     {stats(0, 1000, 500), 1},
		"a pause that ends by itself keeps the tasks in hand":    {stats(4, 1000, 1, pausedUntil), 4},
		"a rate wants the slots of what starts in a task's time": {stats(10, 100000, 10, rate(10)), 10},
		"a rate that too few slots use up wants more":            {stats(5, 100000, 2.5, rate(10)), 20},
		"a rate wants no more than it starts within the time":    {stats(60, 100000, 0.1, rate(1)), 90},
		"a rate of tasks of an unknown length":                   {stats(0, 100000, 0, rate(2)), 60},
		"a lowered rate cuts no slot with a task in hand":        {stats(50, 1000, 50, rate(1)), 50},
		"a slow rate wants a slot":                               {stats(0, 1000, 0, rate(0.001)), 1},
		"a rate and a concurrency":                               {stats(5, 100000, 2.5, rate(10), limited(7)), 7},
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

// shape is a load of the model, with the settings of its queue.
type shape struct {
	load        func(second int) float64 // creates, in the first 20 minutes
	length      float64                  // mean seconds of a task
	rate        float64                  // starts a second; 0 = no limit
	concurrency int                      // 0 = no limit
	paused      func(second int) bool
	until       bool    // the pauses end by themselves
	slots       float64 // the most that the queue can use, after the first tasks have ended; 0 = any number
	waiting     float64 // the most tasks that may wait after the start; 0 = any number
}

const (
	perReplica  = 10.0 // tasks at once
	loadSeconds = 1200
	pollSeconds = 15 // the interval of the autoscaler
)

// scaled is the state of a model of a queue and of its workers.
type scaled struct {
	shape
	backlog, held, replicas float64
	recent                  []float64 // finished tasks of the seconds of the last minute
	history                 []float64 // wanted replicas of the last 5 minutes: the stabilisation of a scale-down
}

// step moves the model on by a second.
func (q *scaled) step(second int) {
	if second < loadSeconds {
		q.backlog += q.load(second)
	}
	done := min(q.held, q.held/q.length)
	q.held -= done
	if q.recent = append(q.recent, done); len(q.recent) > 60 {
		q.recent = q.recent[1:]
	}
	if q.paused != nil && q.paused(second) {
		return
	}

	taken := max(0, min(q.backlog, q.replicas*perReplica-q.held))
	if q.rate > 0 {
		taken = min(taken, q.rate)
	}
	if q.concurrency > 0 {
		taken = min(taken, max(0, float64(q.concurrency)-q.held))
	}
	q.backlog -= taken
	q.held += taken
}

// poll sets the replicas as the autoscaler of Kubernetes does.
func (q *scaled) poll(second int) {
	sum := 0.0
	for _, n := range q.recent {
		sum += n
	}
	stats := &queue.QueueStats{
		Counts: map[queue.Status]int64{queue.StatusRetained: int64(math.Round(q.held))}, Ready: int64(math.Round(q.backlog)),
		FinishedPerSecond: math.Round(sum) / 60, Concurrency: q.concurrency, StartsPerSecond: q.rate,
	}
	if q.paused != nil && q.paused(second) {
		if stats.Paused = !q.until; q.until {
			stats.PausedUntil = time.Unix(1, 0)
		}
	}
	s := queue.ScaleQueues(queue.DefaultScaleWithin, stats)
	if q.history = append(q.history, math.Ceil(s.Slots/perReplica)); len(q.history) > 300/pollSeconds {
		q.history = q.history[1:]
	}
	q.replicas = slices.Max(q.history)
}

// TestScaleDoesNotOscillate lets a model of the autoscaler of Kubernetes follow the slots over shapes of load. Tasks must not
// pile up, no task in hand may lose its slot, the number of replicas must not swing, and all must end at none.
func TestScaleDoesNotOscillate(t *testing.T) {
	between := func(from, to int) func(int) bool { return func(s int) bool { return s >= from && s < to } }
	burst := func(n float64) func(int) float64 {
		return func(s int) float64 { return map[bool]float64{true: n}[s == 60] }
	}
	steady := func(n float64) func(int) float64 { return func(int) float64 { return n } }
	for name, load := range map[string]shape{
		"steady":    {load: steady(20), length: 2, waiting: 500},
		"a burst":   {load: burst(5000), length: 2, waiting: 500},
		"a step up": {load: func(s int) float64 { return map[bool]float64{true: 50, false: 5}[s >= 300] }, length: 2, waiting: 500},
		"a wave":    {load: func(s int) float64 { return 20 + 15*math.Sin(float64(s)/300) }, length: 2, waiting: 500},
		"a trickle": {load: func(s int) float64 { return map[bool]float64{true: 1}[s%20 == 0] }, length: 2, waiting: 500},
		"on, off":   {load: func(s int) float64 { return map[bool]float64{true: 30}[s/300%2 == 0] }, length: 2, waiting: 500},

		"long tasks":                     {load: steady(0.2), length: 600, waiting: 10},
		"a burst of long tasks":          {load: burst(200), length: 600, waiting: 1},
		"a pause":                        {load: steady(20), length: 2, paused: between(300, 900)},
		"a pause over long tasks":        {load: steady(0.2), length: 600, paused: between(300, 900)},
		"a pause that ends by itself":    {load: steady(20), length: 2, paused: between(300, 900), until: true},
		"pauses that come again":         {load: steady(5), length: 2, paused: func(s int) bool { return s%120 < 30 }, until: true, waiting: 200},
		"a rate below the load":          {load: steady(20), length: 2, rate: 10, slots: 30},
		"a rate above the load":          {load: steady(5), length: 2, rate: 10, slots: 30, waiting: 20},
		"a burst against a rate":         {load: burst(9000), length: 2, rate: 10, slots: 30},
		"a rate of long tasks":           {load: burst(500), length: 300, rate: 0.5, slots: 180},
		"a concurrency below the load":   {load: steady(20), length: 2, concurrency: 20, slots: 20},
		"a rate, a concurrency, a pause": {load: steady(20), length: 2, rate: 30, concurrency: 20, slots: 20, paused: between(300, 900), until: true},
	} {
		t.Run(name, func(t *testing.T) {
			q := scaled{shape: load}
			turns, last, worst, most := 0, 0.0, 0.0, 0.0
			end := 2400 + int(10*load.length)
			if load.slots > 0 { // a limited queue needs time to work off its tasks
				end += 3600
			}
			for second := range end {
				q.step(second)
				if second%pollSeconds == 0 {
					before := q.replicas
					q.poll(second)
					if (q.replicas-before)*last < 0 {
						turns++
					}
					if q.replicas != before {
						last = q.replicas - before
					}
					if q.replicas*perReplica < q.held-0.5 {
						t.Fatalf("after %d s %v replicas run %.1f tasks", second, q.replicas, q.held)
					}
				}
				if second > 400 && second < loadSeconds {
					worst = max(worst, q.backlog)
				}
				if second > 420+int(load.length) {
					most = max(most, q.replicas)
				}
				if load.paused != nil && second == 899 && load.paused(300) && load.paused(899) && q.replicas*perReplica > q.held+perReplica+load.length {
					t.Errorf("%v replicas run %.1f tasks of a paused queue", q.replicas, q.held)
				}
			}
			if q.backlog > 0.5 || q.replicas != 0 {
				t.Errorf("at the end %.1f tasks wait and %v replicas run", q.backlog, q.replicas)
			}
			if turns > 4 {
				t.Errorf("the number of replicas changed its direction %d times", turns)
			}
			if load.waiting > 0 && worst > load.waiting {
				t.Errorf("%.0f tasks waited", worst)
			}
			if load.slots > 0 && most*perReplica > load.slots {
				t.Errorf("%v replicas ran, the limits of the queue have use for %v slots", most, load.slots)
			}
		})
	}
}
