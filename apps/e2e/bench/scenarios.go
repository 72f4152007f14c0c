package main

import (
	"fmt"
	"strings"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/contender"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// server is the contender that is reached over the wire.
const server = "pgqueue server"

// scenario is what is measured.
type scenario struct {
	id   string
	plan plan.Plan
	who  []string
	// rounds of it, each in another order.
	rounds int
	// held: another session holds a snapshot all the while.
	held bool
	// both: each round is played twice, free and held in turns; the latter under its id and " held".
	both bool
}

// Sets of contenders.
var (
	everybody = []string{contender.Ours, contender.River, graphile, pgBoss, contender.Gue, contender.Raw}
	peers     = []string{contender.Ours, contender.River, graphile, pgBoss, contender.Gue}
	nearest   = []string{contender.Ours, contender.River, graphile, contender.Gue}
	two       = []string{contender.Ours, contender.River}
	// Those that a target compares, and the rest of everybody.
	targets = []string{contender.Ours, contender.River, contender.Raw}
	others  = []string{graphile, pgBoss, contender.Gue}
)

// scenarios of a run. The quick ones are the same with smaller numbers, and fewer of them.
func scenarios(full bool) []scenario {
	pick := func(quick, whole int) int {
		if full {
			return whole
		}
		return quick
	}
	seconds, rounds := float64(pick(10, 60)), pick(3, 5)
	bulk := plan.Plan{Scenario: "drain", Tasks: 200_000, Batch: 2000}
	live := plan.Plan{Scenario: "live", Seconds: seconds, Batch: 500}
	s := []scenario{
		{id: "drain", plan: bulk, who: everybody, rounds: rounds},
		{id: "drain 256", plan: with(bulk, func(p *plan.Plan) { p.Workers = 256 }), who: []string{contender.Ours}, rounds: rounds},
		{id: "slots", plan: slots(func(p *plan.Plan) { p.Scenario, p.Workers, p.Batch = "drain", 100, 500 }), who: []string{contender.Ours}, rounds: rounds},
		{id: "live", plan: live, who: targets, rounds: 3},
		{id: "live held", plan: live, who: targets, rounds: 3, held: true},
		{id: "million", plan: with(bulk, func(p *plan.Plan) { p.Tasks = 1_000_000 }), who: []string{contender.Ours}, rounds: pick(1, 3), both: true},
		{id: "million live", plan: with(live, func(p *plan.Plan) { p.Tasks, p.Seconds = 1_000_000, 0 }), who: []string{contender.Ours}, rounds: pick(1, 3), both: true},
		{id: "pickup", plan: plan.Plan{Scenario: "pickup", Samples: pick(200, 500)}, who: nearest, rounds: rounds},
	}
	for _, rate := range []int{1000, 5000} {
		s = append(s, scenario{
			id: fmt.Sprintf("offered %d", rate), who: peers, rounds: pick(1, 3),
			plan: plan.Plan{Scenario: "offered", Rate: rate, Seconds: float64(pick(5, 20))},
		})
	}
	for _, queues := range []int{1, 8, 64} {
		s = append(s, scenario{
			id: fmt.Sprintf("queues %d", queues), who: two, rounds: pick(1, 3),
			plan: with(bulk, func(p *plan.Plan) { p.Queues, p.Tasks = queues, pick(50_000, 200_000) }),
		})
	}
	for _, size := range []struct{ bytes, quick, whole int }{{100, 50_000, 200_000}, {10_000, 10_000, 50_000}, {200_000, 500, 5_000}} {
		s = append(s, scenario{
			id: fmt.Sprintf("payload %d", size.bytes), who: two, rounds: pick(1, 3),
			plan: with(bulk, func(p *plan.Plan) {
				p.PayloadBytes, p.Tasks, p.Batch = size.bytes, pick(size.quick, size.whole), min(2000, 8_000_000/size.bytes)
			}),
		})
	}
	if full {
		s = append(
			s,
			scenario{id: "live", plan: live, who: others, rounds: 1},
			scenario{id: "live held", plan: live, who: others, rounds: 1, held: true},
			scenario{id: "backlog 1000000", plan: with(bulk, func(p *plan.Plan) { p.Tasks = 1_000_000 }), who: []string{contender.Ours, contender.River, graphile, contender.Raw}, rounds: 1},
			scenario{id: "delayed 10000000", plan: with(live, func(p *plan.Plan) { p.Delayed, p.Seconds, p.Batch = 10_000_000, 20, 2000 }), who: two, rounds: 1},
		)
	}
	return append(s, serverScenarios(pick)...)
}

// serverScenarios are those over the wire.
func serverScenarios(pick func(int, int) int) []scenario {
	all := pick(0, 1) == 1
	var s []scenario
	add := func(id string, rounds int, p plan.Plan) {
		s = append(s, scenario{id: id, who: []string{server}, rounds: rounds, plan: p})
	}
	clients := []int{1, 32, 256}
	if all {
		clients = []int{1, 2, 4, 8, 16, 32, 64, 128, 256}
	}
	for _, n := range clients {
		for _, way := range []string{"rest", "connect"} {
			rounds := 1
			if way == "rest" && n >= 32 || n == 256 { // those with a target, and their neighbours
				rounds = 3
			}
			length := float64(pick(4, 10))
			add(fmt.Sprintf("%s create %d", way, n), rounds, plan.Plan{Scenario: way + " create", Clients: n, Seconds: length})
			add(fmt.Sprintf("%s pairs %d", way, n), rounds, plan.Plan{
				Scenario: way + " pairs", Clients: n, Seconds: length, Tasks: min(n*pick(4_000, 10_000), pick(60_000, 150_000)),
			})
			if way == "connect" {
				add(fmt.Sprintf("stream %d", n), rounds, plan.Plan{Scenario: "stream runtime", Clients: n, Tasks: min(n*pick(2_000, 5_000), pick(100_000, 200_000))})
			}
		}
	}
	add("stream slots", pick(3, 5), slots(func(p *plan.Plan) { p.Scenario, p.Clients = "stream runtime", 100 }))
	add("streams", pick(1, 3), plan.Plan{Scenario: "streams", Clients: 1000, Samples: pick(200, 500)})
	return s
}

// slots is work that takes time, by fewer handlers at once than there are tasks: what counts is that none of them waits.
func slots(change func(*plan.Plan)) plan.Plan {
	return with(plan.Plan{Tasks: 1000, HandlerMillis: 50}, change)
}

func with(p plan.Plan, change func(*plan.Plan)) plan.Plan {
	change(&p)
	return p
}

// fill fills in what most scenarios do not care about, and scales.
func fill(p plan.Plan, scale float64) plan.Plan {
	def := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	def(&p.Workers, 500)
	def(&p.Queues, 1)
	def(&p.Producers, 2)
	def(&p.Batch, 500)
	for _, n := range []*int{&p.Tasks, &p.Delayed, &p.Samples} {
		if *n > 0 {
			*n = max(int(float64(*n)*scale), 10)
		}
	}
	p.Seconds *= scale
	if strings.HasPrefix(p.Scenario, "offered") && p.Seconds > 0 {
		p.Seconds = max(p.Seconds, 1)
	}
	return p
}
