package restapi

import "github.com/pgqueue/pgqueue/domain/queue"

// Cell is one database schema with everything of some namespaces.
type Cell struct {
	ID         int    `json:"id" doc:"Number of the cell; an installation without further cells is cell 0" example:"0"`
	Schema     string `json:"schema,omitempty" doc:"Schema of its tables; absent where the store has none" example:"pgqueue"`
	State      string `json:"state" enum:"open,closed" doc:"Whether new namespaces may go to it" example:"open"`
	Namespaces int    `json:"namespaces" doc:"Number of its namespaces" example:"12"`
	Up         bool   `json:"up" doc:"Whether it can work now" example:"true"`
	Error      string `json:"error,omitempty" doc:"Why it cannot work; absent when it can" example:"cell 1: connection refused"`
}

// CellOf converts c for the wire.
func CellOf(c queue.CellStatus) Cell {
	out := Cell{ID: c.ID, Schema: c.Schema, State: string(c.State), Namespaces: c.Namespaces, Up: c.Err == nil}
	if c.Err != nil {
		out.Error = c.Err.Error()
	}
	return out
}
