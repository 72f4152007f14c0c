package main

import (
	"fmt"
	"strings"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/contender"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// server is the contender that clients reach over the network.
const server = "pgqueue server"

// closedServer is the server when each request needs a token.
const closedServer = "pgqueue server with tokens"

// scenario is one measurement.
type scenario struct {
	id   string
	plan plan.Plan
	who  []string
	// rounds is the number of rounds; each has another order.
	rounds int
	// held means that another session holds a snapshot during the whole run.
	held bool
	// both means that each round runs twice, free and held in alternating order. The held run has " held" after its
	// id.
	both bool
}

// Sets of contenders.
var (
	everybody = []string{contender.Ours, contender.River, graphile, pgBoss, contender.Gue, contender.Raw}
	peers     = []string{contender.Ours, contender.River, graphile, pgBoss, contender.Gue}
	nearest   = []string{contender.Ours, contender.River, graphile, contender.Gue}
	two       = []string{contender.Ours, contender.River}
	// targets are the contenders in the targets; others are the rest of everybody.
	targets = []string{contender.Ours, contender.River, contender.Raw}
	others  = []string{graphile, pgBoss, contender.Gue}
)

// scenarios returns the scenarios of a benchmark. A quick one has fewer of them, with smaller numbers.
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

	// River has groups by licence alone; for one group a queue with one worker stands in. pg-boss and Graphile have named queues.
	s = append(
		s,
		scenario{id: "groups 50000", plan: with(bulk, func(p *plan.Plan) { p.Groups, p.Tasks = 50_000, 50_000 }), who: []string{contender.Ours, graphile, pgBoss}, rounds: pick(1, 3)},
		scenario{id: "one group 2000", plan: with(bulk, func(p *plan.Plan) { p.Groups, p.Tasks = 1, 2_000 }), who: []string{contender.Ours, contender.River, graphile, pgBoss}, rounds: pick(1, 3)},
	)

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

// serverScenarios returns the scenarios over the network.
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
			if way == "rest" && n >= 32 || n == 256 { // those with a target and those close to it
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

	// Pairs of an open and a closed server, in alternating order, show the cost of access.
	s = append(s, scenario{
		id: "rest tokens 32", who: []string{server, closedServer}, rounds: pick(3, 10),
		plan: plan.Plan{Scenario: "rest pairs", Clients: 32, Seconds: float64(pick(4, 10)), Tasks: pick(60_000, 150_000)},
	})

	add("stream slots", pick(3, 5), slots(func(p *plan.Plan) { p.Scenario, p.Clients = "stream runtime", 100 }))
	add("streams", pick(1, 3), plan.Plan{Scenario: "streams", Clients: 1000, Samples: pick(200, 500)})
	return s
}

// slots returns a plan with slow handlers and fewer slots than tasks. It shows whether all slots stay busy.
func slots(change func(*plan.Plan)) plan.Plan {
	return with(plan.Plan{Tasks: 1000, HandlerMillis: 50}, change)
}

// with returns p after change.
func with(p plan.Plan, change func(*plan.Plan)) plan.Plan {
	change(&p)
	return p
}

// fill sets the defaults of a plan and scales its numbers and times.
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
