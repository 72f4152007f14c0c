package queue_test

import (
	"math"
	"math/rand/v2"
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
	length      float64                  // mean seconds of a task; each is from half of it to one and a half
	rate        float64                  // starts a second; 0 = no limit
	concurrency int                      // 0 = no limit
	paused      func(second int) bool
	until       bool    // the pauses end by themselves
	slots       float64 // the most that the queue can use, after the first tasks have ended; 0 = any number
	waiting     int     // the most tasks that may wait after the start; 0 = any number
	turns       int     // the changes of direction of the number of replicas: up and down once for each rise of the load
	cut         int     // the most handlers that the autoscaler may cut in a Deployment; 0 where each task ends within a drain
}

// Settings of the chart and its workers, and defaults of Kubernetes and KEDA.
const (
	perReplica    = 10 // concurrency of a worker
	drainSeconds  = 25 // worker.drainTime
	untilEmpty    = 10 // of a ScaledJob
	maxTasks      = 100
	startSeconds  = 5   // from a new replica to its first task
	pollSeconds   = 15  // the interval of the autoscaler
	kedaSeconds   = 30  // the interval of KEDA
	stabilisation = 300 // stabilizationWindowSeconds of a scale-down, and cooldownPeriod of KEDA
	tolerance     = 0.1 // of the autoscaler
	maxReplicas   = 60

	loadSeconds = 1200
)

// pod is a replica with the seconds that each of its tasks still needs.
type pod struct {
	tasks    []int
	starting int // seconds
	drain    int // seconds until its tasks are cut; 0 = it works
	idle     int // seconds without a task to take
	taken    int
}

// cluster is a model of a queue, of the workers and of their autoscaler.
type cluster struct {
	shape
	jobs bool // a ScaledJob in place of a Deployment

	r        *rand.Rand
	created  float64
	started  float64 // starts that the rate still allows
	backlog  int
	pods     []*pod
	recent   []int // finished tasks of the seconds of the last minute
	history  []int // wanted replicas of the last 5 minutes
	active   int   // the last second with work
	cut      int
	finished int
}

// held returns the number of tasks in hand.
func (c *cluster) held() (n int) {
	for _, p := range c.pods {
		n += len(p.tasks)
	}
	return n
}

// replicas returns the number of pods that are not about to end.
func (c *cluster) replicas() (n int) {
	for _, p := range c.pods {
		if p.drain == 0 {
			n++
		}
	}
	return n
}

// step moves the model on by a second.
func (c *cluster) step(second int) {
	if second < loadSeconds {
		c.created += c.load(second)
		whole := int(c.created)
		c.created -= float64(whole)
		c.backlog += whole
	}

	done := 0
	c.pods = slices.DeleteFunc(c.pods, func(p *pod) bool {
		left := p.tasks[:0]
		for _, seconds := range p.tasks {
			if seconds--; seconds > 0 {
				left = append(left, seconds)
			} else {
				done++
			}
		}
		p.tasks = left
		p.starting = max(0, p.starting-1)
		return c.ends(p)
	})
	c.finished += done
	if c.recent = append(c.recent, done); len(c.recent) > 60 {
		c.recent = c.recent[1:]
	}
	c.take(second)
}

// ends reports whether a pod is gone after this second: a drained one, or a job without work.
func (c *cluster) ends(p *pod) bool {
	switch {
	case p.drain > 0:
		if p.drain--; p.drain == 0 {
			c.cut += len(p.tasks)
			c.backlog += len(p.tasks) // their leases are handed back
		}
		return p.drain == 0 || len(p.tasks) == 0
	case c.jobs && p.starting == 0 && len(p.tasks) == 0:
		p.idle++
		return p.idle > untilEmpty || p.taken >= maxTasks
	}
	p.idle = 0
	return false
}

// take gives ready tasks to pods with a place, to each in turn.
func (c *cluster) take(second int) {
	if c.paused != nil && c.paused(second) {
		return
	}
	may := c.backlog
	if c.rate > 0 {
		c.started = min(c.started+c.rate, max(1, c.rate))
		may = min(may, int(c.started))
	}
	if c.concurrency > 0 {
		may = min(may, max(0, c.concurrency-c.held()))
	}
	for progress := true; progress && may > 0; {
		progress = false
		for _, p := range c.pods {
			if may == 0 || p.drain > 0 || p.starting > 0 || len(p.tasks) >= perReplica || c.jobs && p.taken >= maxTasks {
				continue
			}
			p.tasks = append(p.tasks, max(1, int(math.Round(c.length*(0.5+c.r.Float64())))))
			p.taken++
			may--
			c.backlog--
			c.started--
			progress = true
		}
	}
}

// wanted returns the slots that the server answers.
func (c *cluster) wanted(second int) float64 {
	sum := 0
	for _, n := range c.recent {
		sum += n
	}
	stats := &queue.QueueStats{
		Counts: map[queue.Status]int64{queue.StatusRetained: int64(c.held())}, Ready: int64(c.backlog),
		FinishedPerSecond: float64(sum) / 60, Concurrency: c.concurrency, StartsPerSecond: c.rate,
	}
	if c.paused != nil && c.paused(second) {
		if stats.Paused = !c.until; c.until {
			stats.PausedUntil = time.Unix(1, 0)
		}
	}
	return queue.ScaleQueues(queue.DefaultScaleWithin, stats).Slots
}

// scaleJobs starts the jobs that are missing, as KEDA does by the strategy default. It ends none.
func (c *cluster) scaleJobs(second int) {
	if second%kedaSeconds == 0 {
		c.add(min(maxReplicas, int(math.Ceil(c.wanted(second)/perReplica))) - len(c.pods))
	}
}

// scaleDeployment is KEDA, which starts the first replica and ends the last one, and the autoscaler of Kubernetes between them.
func (c *cluster) scaleDeployment(second int) {
	if second%pollSeconds != 0 {
		return
	}
	slots, now := c.wanted(second), c.replicas()
	if slots > 0 {
		c.active = second
	}
	switch {
	case now == 0:
		if slots > 0 && second%kedaSeconds == 0 {
			c.add(1)
		}
		return
	case second-c.active >= stabilisation:
		c.history = nil
		c.remove(now)
		return
	}

	want := now
	if math.Abs(slots/float64(perReplica*now)-1) > tolerance {
		want = min(maxReplicas, max(1, int(math.Ceil(slots/perReplica))))
	}
	if c.history = append(c.history, want); len(c.history) > stabilisation/pollSeconds {
		c.history = c.history[1:]
	}
	if want > now {
		c.add(min(want, max(2*now, now+4)) - now) // the policies of a scale-up
	} else {
		c.remove(now - min(now, slices.Max(c.history)))
	}
}

func (c *cluster) add(n int) {
	for range n {
		c.pods = append(c.pods, &pod{starting: startSeconds})
	}
}

// remove ends the newest pods, as a Deployment does.
func (c *cluster) remove(n int) {
	for _, p := range slices.Backward(c.pods) {
		if n > 0 && p.drain == 0 {
			p.drain = drainSeconds
			n--
		}
	}
}

// run lets the autoscaler follow the load until all tasks have ended.
func (c *cluster) run(t *testing.T) {
	t.Helper()
	turns, last, worst, most, created := 0, 0, 0, 0, 0.0
	end := 2400 + int(10*c.length)
	if c.shape.slots > 0 { // a limited queue needs time to work off its tasks
		end += 3600
	}
	for second := range end {
		if second < loadSeconds {
			created += c.load(second)
		}
		c.step(second)
		before := c.replicas()
		if c.jobs {
			c.scaleJobs(second)
		} else {
			c.scaleDeployment(second)
		}
		if by := c.replicas() - before; by != 0 {
			if by*last < 0 {
				turns++
			}
			last = by
		}
		if second > 400 && second < loadSeconds {
			worst = max(worst, c.backlog)
		}
		if second > 420+int(1.5*c.length) {
			most = max(most, c.replicas())
		}
	}

	if c.backlog > 0 || len(c.pods) > 0 || math.Abs(float64(c.finished)-created) > 1 {
		t.Errorf("at the end %d tasks wait, %d replicas run, %d of %.0f tasks have finished", c.backlog, len(c.pods), c.finished, created)
	}
	if !c.jobs && turns > c.turns { // the number of jobs falls by itself with each that ends
		t.Errorf("the number of replicas changed its direction %d times, want at most %d", turns, c.turns)
	}
	if c.waiting > 0 && worst > c.waiting {
		t.Errorf("%d tasks waited, want at most %d", worst, c.waiting)
	}
	if c.shape.slots > 0 && float64(most*perReplica) > c.shape.slots {
		t.Errorf("%d replicas ran, the limits of the queue have use for %v slots", most, c.shape.slots)
	}
	if most := map[bool]int{false: c.shape.cut}[c.jobs]; c.cut > most {
		t.Errorf("%d handlers were cut, want at most %d", c.cut, most)
	}
}

// TestOneLongTaskInEachPod is the case that the sum of the slots does not show: ten pods with a long task each want ten slots, which one
// replica has. A Deployment loses nine handlers, jobs lose none.
func TestOneLongTaskInEachPod(t *testing.T) {
	for jobs, want := range map[bool]int{false: 9, true: 0} {
		c := cluster{shape: shape{load: func(int) float64 { return 0 }, length: 3600}, jobs: jobs, r: rand.New(rand.NewPCG(1, 2))}
		for range 10 {
			c.pods = append(c.pods, &pod{tasks: []int{1200}, taken: 1})
		}
		for second := range 1100 {
			c.step(second)
			if c.backlog = 0; jobs { // other workers take what is handed back
				c.scaleJobs(second)
			} else {
				c.scaleDeployment(second)
			}
		}
		if c.cut != want {
			t.Errorf("jobs %v: %d handlers were cut, want %d", jobs, c.cut, want)
		}
	}
}

// TestScaleDoesNotOscillate lets a model of KEDA and of the autoscaler of Kubernetes follow the slots over shapes of load, with the
// tasks of each pod. Tasks must not pile up, the number of replicas must not swing, all must end at none, and few handlers may be
// cut: none in jobs, which take the tasks longer than a drain, and none in a Deployment with shorter tasks.
func TestScaleDoesNotOscillate(t *testing.T) {
	between := func(from, to int) func(int) bool { return func(s int) bool { return s >= from && s < to } }
	burst := func(n float64) func(int) float64 {
		return func(s int) float64 { return map[bool]float64{true: n}[s == 60] }
	}
	steady := func(n float64) func(int) float64 { return func(int) float64 { return n } }
	for name, load := range map[string]shape{
		"steady":    {load: steady(20), length: 2, waiting: 500, turns: 1},
		"a burst":   {load: burst(5000), length: 2, waiting: 500, turns: 1},
		"a step up": {load: func(s int) float64 { return map[bool]float64{true: 50, false: 5}[s >= 300] }, length: 2, waiting: 500, turns: 1},
		"a wave":    {load: func(s int) float64 { return 20 + 15*math.Sin(float64(s)/300) }, length: 2, waiting: 500, turns: 1},
		"a trickle": {load: func(s int) float64 { return map[bool]float64{true: 1}[s%20 == 0] }, length: 2, waiting: 500, turns: 1},
		"on, off":   {load: func(s int) float64 { return map[bool]float64{true: 30}[s/300%2 == 0] }, length: 2, waiting: 500, turns: 3},

		"steady tasks of a drain":        {load: steady(2), length: 16, waiting: 500, turns: 1},
		"long tasks":                     {load: steady(0.2), length: 600, waiting: 15, turns: 1, cut: 20},
		"a burst of long tasks":          {load: burst(200), length: 600, waiting: 1, turns: 1, cut: 35},
		"a pause":                        {load: steady(20), length: 2, paused: between(300, 900), turns: 3},
		"a pause over long tasks":        {load: steady(0.2), length: 600, paused: between(300, 900), turns: 3, cut: 50},
		"a pause that ends by itself":    {load: steady(20), length: 2, paused: between(300, 900), until: true, turns: 3},
		"pauses that come again":         {load: steady(5), length: 2, paused: func(s int) bool { return s%120 < 30 }, until: true, waiting: 200, turns: 1},
		"a rate below the load":          {load: steady(20), length: 2, rate: 10, slots: 30, turns: 1},
		"a rate above the load":          {load: steady(5), length: 2, rate: 10, slots: 30, waiting: 20, turns: 1},
		"a burst against a rate":         {load: burst(9000), length: 2, rate: 10, slots: 30, turns: 1},
		"a rate of long tasks":           {load: burst(500), length: 300, rate: 0.5, slots: 180, turns: 1, cut: 5},
		"a concurrency below the load":   {load: steady(20), length: 2, concurrency: 20, slots: 20, turns: 1},
		"a rate, a concurrency, a pause": {load: steady(20), length: 2, rate: 30, concurrency: 20, slots: 20, paused: between(300, 900), until: true, turns: 3},
	} {
		for _, jobs := range []bool{false, true} {
			kind := map[bool]string{true: "ScaledJob", false: "ScaledObject"}[jobs]
			if jobs && load.length <= drainSeconds { // a job would end before KEDA looks again, and the chart says so
				continue
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				c := cluster{shape: load, jobs: jobs, r: rand.New(rand.NewPCG(1, 2))}
				c.run(t)
			})
		}
	}
}
