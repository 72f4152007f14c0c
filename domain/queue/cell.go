package queue

import (
	"context"
	"fmt"
)

// A cell is one database schema with everything of some namespaces: queues, tasks, tickers, events. A namespace lives in one
// cell. An installation without further cells is cell 0. Cell 0 also has the directory of the cells, the tokens and the audit.

const (
	// MaxCells bounds the ids of cells: with ids of tasks from FirstID on, all ids stay exact in JSON.
	MaxCells = 512
	// cellBits is the number of bits of the ids within one cell.
	cellBits = 44
)

// FirstID returns the number behind which the ids and tokens of a cell begin: cell·2⁴⁴.
func FirstID(cell int) int64 { return int64(cell) << cellBits }

// CellOfID returns the cell that gave out an id.
func CellOfID(id int64) int { return int(id >> cellBits) }

// CellState says which namespaces a cell takes.
type CellState string

// The states of a cell.
const (
	// CellOpen: new namespaces may go to the cell.
	CellOpen CellState = "open"
	// CellClosed: the cell keeps its namespaces and gets no new ones by itself.
	CellClosed CellState = "closed"
)

// Cell is one row of the directory.
type Cell struct {
	ID     int
	Schema string
	// URL leads to the home of the cell, the one server by which it is entered. It may contain a password.
	URL string
	// DDLURL leads to the server that changes tables: the coordinator of Citus. "" means the home.
	DDLURL string
	// Home identifies the server of URL, as the cell itself has recorded it. "" = not checked.
	Home  string
	State CellState
}

// CheckCell returns an error for a cell that the directory may not have.
func CheckCell(c Cell) error {
	if c.ID < 0 || c.ID >= MaxCells {
		return Invalid("cell", fmt.Sprintf("must be a number from 0 to %d, got %d", MaxCells-1, c.ID))
	}
	if c.State != CellOpen && c.State != CellClosed {
		return Invalid("state", fmt.Sprintf("must be %s or %s, got %.64q; write one of them", CellOpen, CellClosed, c.State))
	}
	return nil
}

// Directory is the list of the cells and the cell of each namespace.
type Directory struct {
	Cells  []Cell // by id
	Places map[string]int
}

// CellDirectory keeps the directory. All methods are safe for concurrent use by any number of processes.
type CellDirectory interface {
	ReadDirectory(ctx context.Context) (Directory, error)
	// PlaceNamespace puts a namespace into a cell unless it has one, and returns the cell that it has then.
	PlaceNamespace(ctx context.Context, namespace string, cell int) (int, error)
	// MoveNamespace replaces the cell of a namespace. The caller has checked that the present one has nothing of it.
	MoveNamespace(ctx context.Context, namespace string, from, to int) error
	// AddCell adds a cell; KindAlreadyExists when its id is taken.
	AddCell(ctx context.Context, c Cell) error
	// UpdateCell replaces the cell with the id of c; KindNotFound without one.
	UpdateCell(ctx context.Context, c Cell) error
}

// CellStatus is a cell as an operator sees it. It contains no connection string.
type CellStatus struct {
	ID         int
	Schema     string
	State      CellState
	Namespaces int // that have a place in it
	// Err is why the cell cannot work now; nil when it can.
	Err error
}

// CellLister is an optional interface: the state of each cell. Find it with StoreAs; a store without it is cell 0 alone.
type CellLister interface {
	ListCells(ctx context.Context) ([]CellStatus, error)
}
