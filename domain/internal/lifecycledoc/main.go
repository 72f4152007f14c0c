// Command lifecycledoc writes docs/lifecycle.md from queue.Transitions, the table that the rules and both stores follow:
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
	if err := os.WriteFile(os.Args[1], []byte(renderPage()), 0o644); err != nil { //nolint:gosec // the page is public
		fmt.Fprintln(os.Stderr, "lifecycledoc:", err)
		os.Exit(1)
	}
}

// moveCauses lists each move with its cause, in the order of a task's life.
var moveCauses = []struct {
	move  queue.Move
	cause string
}{
	{queue.MoveCreate, "a producer, or a ticker"},
	{queue.MoveRetain, "a worker"},
	{queue.MoveRelease, "the worker: success"},
	{queue.MoveFail, "the worker: failure"},
	{queue.MoveHandBack, "the worker: returns a task that it has not started, for example when it stops"},
	{queue.MoveSnooze, "the worker: again later, after a delay"},
	{queue.MoveLeaseLost, "the rescuer: the lease lapsed"},
	{queue.MoveExpire, "the expirer"},
	{queue.MoveCancel, "an operator, or a program"},
	{queue.MoveRetry, "an operator, or a program"},
	{queue.MovePrune, "the pruner, clean or delete"},
}

// renderPage returns the text of the page.
func renderPage() string {
	var b strings.Builder
	b.WriteString(`<!-- Generated from domain/queue: queue.Transitions. Change it there, then: make generate -->

# The lifecycle of a task

`)

	b.WriteString("```mermaid\nstateDiagram-v2\n")
	for _, edge := range groupEdges() {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", nameState(edge.from, "[*]"), nameState(edge.to, "[*]"), strings.Join(edge.moves, ", "))
	}
	b.WriteString("```\n\n")

	b.WriteString("A call that asks for another move gets a conflict, and the task stays as it is.\n\n")
	b.WriteString("| from | move | to | when |\n|---|---|---|---|\n")
	for _, t := range queue.Transitions() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", nameState(t.From, "–"), t.Move, nameState(t.To, "gone"), t.When)
	}

	b.WriteString("\n## The cause of each move\n\n| move | cause |\n|---|---|\n")
	for _, row := range moveCauses {
		fmt.Fprintf(&b, "| %s | %s |\n", row.move, row.cause)
	}

	b.WriteString(`
- After a cancel request the task ends cancelled at the next move of its worker, or when its lease lapses.
- A hand-back or a snooze does not count as an attempt. A lapsed lease does.
- A lease that lapses after dies_at ends the task expired. Otherwise it is a failure with the error "` + queue.LeaseExpired + `".
- In a queue with max_lease_losses a lost lease costs no retry, and so many in a row end the task failed, as quarantined.
- dies_at never ends a task under a lease. It takes effect when the lease lapses too.
`)
	return b.String()
}

// edge is one arrow of the picture, with all moves between its two statuses.
type edge struct {
	from, to queue.Status
	moves    []string
}

// groupEdges returns one edge for each pair of statuses, in the order of queue.Transitions.
func groupEdges() []*edge {
	var edges []*edge
	byPair := map[[2]queue.Status]*edge{}

	for _, t := range queue.Transitions() {
		pair := [2]queue.Status{t.From, t.To}
		if byPair[pair] == nil {
			byPair[pair] = &edge{from: t.From, to: t.To}
			edges = append(edges, byPair[pair])
		}
		byPair[pair].moves = append(byPair[pair].moves, string(t.Move))
	}
	return edges
}

// nameState returns the name of a status, or outside where a task does not exist.
func nameState(s queue.Status, outside string) string {
	if s == "" {
		return outside
	}
	return string(s)
}
