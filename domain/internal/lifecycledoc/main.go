// Command lifecycledoc writes the lifecycle of a task as a page of documentation, from the table that the rules and the
// stores are held to:
//
//	lifecycledoc FILE
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lifecycledoc FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(page()), 0o644); err != nil { //nolint:gosec // a page that all may read
		fmt.Fprintln(os.Stderr, "lifecycledoc:", err)
		os.Exit(1)
	}
}

// about says who makes a move.
var about = map[queue.Move]string{
	queue.MoveCreate:    "a producer, or a ticker",
	queue.MoveRetain:    "a worker",
	queue.MoveRelease:   "the holder: it succeeded",
	queue.MoveFail:      "the holder: it failed",
	queue.MoveHandBack:  "the holder: not started, take it back (a worker that stops)",
	queue.MoveSnooze:    "the holder: not now, again after a delay",
	queue.MoveLeaseLost: "background work (rescue): the lease ran out",
	queue.MoveExpire:    "background work (expire)",
	queue.MoveCancel:    "an operator, or a program",
	queue.MoveRetry:     "an operator, or a program",
	queue.MovePrune:     "background work (prune), clean or delete",
}

// moves in the order in which a reader meets them.
func moves() []queue.Move {
	return []queue.Move{
		queue.MoveCreate, queue.MoveRetain, queue.MoveRelease, queue.MoveFail, queue.MoveHandBack, queue.MoveSnooze,
		queue.MoveLeaseLost, queue.MoveExpire, queue.MoveCancel, queue.MoveRetry, queue.MovePrune,
	}
}

func page() string {
	var b strings.Builder
	b.WriteString(`<!-- Generated from domain/queue: queue.Transitions. Change it there, then: make generate -->

# The lifecycle of a task

`)
	b.WriteString("```mermaid\nstateDiagram-v2\n")
	for _, edge := range edges() {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", orStar(edge.from), orStar(edge.to), strings.Join(edge.moves, ", "))
	}
	b.WriteString("```\n\nWhoever asks for a move that is not in this table gets a conflict, and nothing changes.\n\n")
	b.WriteString("| from | move | to | when |\n|---|---|---|---|\n")
	for _, t := range queue.Transitions() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", orNothing(t.From, "–"), t.Move, orNothing(t.To, "gone"), t.When)
	}
	b.WriteString("\n## Who moves it\n\n| move | made by |\n|---|---|\n")
	for _, m := range moves() {
		fmt.Fprintf(&b, "| %s | %s |\n", m, about[m])
	}
	b.WriteString(`
- Where a cancel was requested, the task ends cancelled with whatever its holder does next, or with its lease.
- A hand back or a snooze takes its attempt back; a lease that ran out does not.
- A lease that ran out after dies_at ends the task expired, else it is a failure with the error "` + queue.LeaseExpired + `".
- dies_at never ends a task that is held: only when its lease runs out too.
`)
	return b.String()
}

type edge struct {
	from, to queue.Status
	moves    []string
}

// edges are the arrows of the picture: one for each pair of statuses.
func edges() []*edge {
	var all []*edge
	at := map[[2]queue.Status]*edge{}
	for _, t := range queue.Transitions() {
		e := at[[2]queue.Status{t.From, t.To}]
		if e == nil {
			e = &edge{from: t.From, to: t.To}
			at[[2]queue.Status{t.From, t.To}] = e
			all = append(all, e)
		}
		e.moves = append(e.moves, string(t.Move))
	}
	return all
}

func orStar(s queue.Status) string { return orNothing(s, "[*]") }

func orNothing(s queue.Status, nothing string) string {
	if s == "" {
		return nothing
	}
	return string(s)
}
