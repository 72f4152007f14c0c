package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/table"
	"github.com/pgqueue/pgqueue/adapters/postgres/internal/txn"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var _ queue.CellDirectory = (*Store)(nil)

// cellRow is a row of the directory.
type cellRow struct {
	id     int32
	schema string
	url    string
	ddlURL string
	home   string
	state  string
}

// placedRow is the cell of one namespace.
type placedRow struct {
	namespace string
	cell      int32
}

// homeRow is the identity of a cell, as the cell has recorded it.
type homeRow struct {
	one    bool
	cell   int32
	server string
}

var (
	cellColumns   = table.Of[cellRow]()
	placedColumns = table.Of[placedRow]()
	homeColumns   = table.Of[homeRow]()
)

// The statements of cells.
var (
	listCells     = statement("cell.list")
	listPlaces    = statement("cell.places")
	placeInCell   = statement("cell.place")
	movePlace     = statement("cell.move")
	insertCell    = statement("cell.insert")
	updateCell    = statement("cell.update")
	readHome      = statement("home.read")
	readServer    = statement("home.server")
	writeHome     = statement("home.write")
	findUse       = statement("home.used")
	resetFeed     = statement("home.reset")
	beginIDs      = statement("home.sequences")
	findMissing   = statement("home.missing")
	makeSequences = statement("home.make")
	dropFirstPart = statement("home.first")
)

// ReadDirectory implements queue.CellDirectory.
func (s *Store) ReadDirectory(ctx context.Context) (queue.Directory, error) {
	const op = "read cells"
	d := queue.Directory{Places: map[string]int{}}
	err := s.db.Query(ctx, op, listCells, scanRows(cellColumns, func(c cellRow) {
		d.Cells = append(d.Cells, queue.Cell{ID: int(c.id), Schema: c.schema, URL: c.url, DDLURL: c.ddlURL, Home: c.home, State: queue.CellState(c.state)})
	}))
	if err != nil {
		return d, err
	}
	return d, s.db.Query(ctx, op, listPlaces, scanRows(placedColumns, func(p placedRow) { d.Places[p.namespace] = int(p.cell) }))
}

// PlaceNamespace implements queue.CellDirectory.
func (s *Store) PlaceNamespace(ctx context.Context, namespace string, cell int) (int, error) {
	const op = "place namespace"
	// Another process may insert the place between the two parts of the statement: then it returns no row.
	for range 3 {
		present := -1
		err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
			return t.Query(ctx, placeInCell, func(rows pgx.Rows) error { return rows.Scan(&present) }, arg("namespace", namespace), arg("cell", cell))
		})
		if err != nil || present >= 0 {
			return present, err
		}
	}
	return 0, &queue.Error{Op: op, Kind: queue.KindUnavailable, Subject: "namespace " + namespace, Msg: "its place changes at this moment; repeat the call"}
}

// MoveNamespace implements queue.CellDirectory.
func (s *Store) MoveNamespace(ctx context.Context, namespace string, from, to int) error {
	return s.changeDirectory(ctx, "move namespace", func(t *txn.Tx, rows *int64) {
		t.QueueCounted(movePlace, rows, arg("to", to), arg("namespace", namespace), arg("from", from))
	}, &queue.Error{Kind: queue.KindConflict, Subject: "namespace " + namespace, Msg: fmt.Sprintf("is not in cell %d any more; read the places again", from)})
}

// AddCell implements queue.CellDirectory.
func (s *Store) AddCell(ctx context.Context, c queue.Cell) error {
	if err := queue.CheckCell(c); err != nil {
		return err
	}
	return s.changeDirectory(ctx, "add cell", func(t *txn.Tx, rows *int64) {
		t.QueueCounted(insertCell, rows, cellColumns.Values(nil, makeCellRow(c))...)
	}, &queue.Error{Kind: queue.KindAlreadyExists, Subject: fmt.Sprintf("cell %d", c.ID), Msg: "exists already; use another number"})
}

// UpdateCell implements queue.CellDirectory.
func (s *Store) UpdateCell(ctx context.Context, c queue.Cell) error {
	if err := queue.CheckCell(c); err != nil {
		return err
	}
	return s.changeDirectory(ctx, "update cell", func(t *txn.Tx, rows *int64) {
		t.QueueCounted(updateCell, rows, cellColumns.Values(nil, makeCellRow(c))...)
	}, &queue.Error{Kind: queue.KindNotFound, Subject: fmt.Sprintf("cell %d", c.ID), Msg: "not found; create it by pgqueue create-cell"})
}

// changeDirectory runs one statement, and returns missed when it changes no row.
func (s *Store) changeDirectory(ctx context.Context, op string, change func(*txn.Tx, *int64), missed *queue.Error) error {
	var rows int64
	err := s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		change(t, &rows)
		return t.Flush(ctx)
	})
	if err == nil && rows == 0 {
		return queue.WithOp(op, missed)
	}
	return err
}

func makeCellRow(c queue.Cell) *cellRow {
	return &cellRow{id: int32(c.ID), schema: c.Schema, url: c.URL, ddlURL: c.DDLURL, home: c.Home, state: string(c.State)}
}

// Home is the identity of a cell.
type Home struct {
	Cell   int
	Server string // identifies the server by which the cell is entered
}

// ReadHome returns the identity that the schema has recorded, and the server of this connection. Without a record found is
// false.
func (s *Store) ReadHome(ctx context.Context) (recorded Home, found bool, server string, err error) {
	const op = "read home"
	err = s.db.Query(ctx, op, readHome, scanRows(homeColumns, func(h homeRow) { recorded, found = Home{Cell: int(h.cell), Server: h.server}, true }))
	if err != nil {
		return recorded, false, "", err
	}
	err = s.db.Query(ctx, op, readServer, scanEach(func(text string) { server = text }))
	return recorded, found, server, err
}

// CheckHome returns an error unless the schema is that of the given cell and its connection leads to its home.
func (s *Store) CheckHome(ctx context.Context, cell int) error {
	recorded, found, server, err := s.ReadHome(ctx)
	if err != nil {
		return err
	}

	refused := &queue.Error{Op: "check home", Kind: queue.KindUnavailable, Subject: fmt.Sprintf("cell %d", cell)}
	switch {
	case !found && cell == 0:
		return nil
	case !found:
		refused.Msg = "has no record of its home; run pgqueue create-cell or move-home"
	case recorded.Cell != cell:
		refused.Msg = fmt.Sprintf("the schema is that of cell %d; correct the url or the schema of the cell", recorded.Cell)
	case recorded.Server != server:
		refused.Msg = fmt.Sprintf("must be entered at its home, server %s, got server %s; correct its url, or run pgqueue move-home", recorded.Server, server)
	default:
		return nil
	}
	return refused
}

// MakeHome makes the server of this connection the home of a cell that is new: its ids and tokens begin at queue.FirstID. It is
// refused once the schema has given out ids. A repeat for the same cell changes nothing.
func (s *Store) MakeHome(ctx context.Context, cell int) (server string, err error) {
	const op = "make home"
	if err := queue.CheckCell(queue.Cell{ID: cell, State: queue.CellOpen}); err != nil {
		return "", err
	}
	recorded, found, server, err := s.ReadHome(ctx)
	if err != nil {
		return "", err
	}
	if found && recorded == (Home{cell, server}) {
		return server, nil
	}
	if found && recorded.Cell != cell {
		return "", &queue.Error{Op: op, Kind: queue.KindConflict, Subject: fmt.Sprintf("cell %d", cell), Msg: fmt.Sprintf("the schema is that of cell %d; use another schema or database", recorded.Cell)}
	}
	if err := s.makeMissingSequences(ctx, op); err != nil {
		return "", err
	}

	first := queue.FirstID(cell)
	err = s.db.Run(ctx, op, func(ctx context.Context, t *txn.Tx) error {
		isUsed := false
		if err := t.Query(ctx, findUse, func(rows pgx.Rows) error { return rows.Scan(&isUsed) }); err != nil {
			return err
		}
		if isUsed && cell > 0 {
			return &queue.Error{Op: op, Kind: queue.KindConflict, Subject: fmt.Sprintf("cell %d", cell), Msg: "must be an unused schema, got one that has given out ids; use another schema, or run pgqueue move-home"}
		}

		var now string
		if err := t.Query(ctx, readFoldNow, func(rows pgx.Rows) error { return rows.Scan(&now, nil) }); err != nil {
			return err
		}
		if cell > 0 {
			t.Queue(beginIDs, arg("first", first))
			t.Queue(resetFeed, arg("now", now))
			if err := s.replaceFirstPart(ctx, t, first); err != nil {
				return err
			}
		}
		t.Queue(writeHome, arg("cell", cell), arg("server", server))
		return nil
	})
	return server, err
}

// makeMissingSequences makes the sequences on a node of Citus, which has the tables of the schema alone.
func (s *Store) makeMissingSequences(ctx context.Context, op string) error {
	var missing []string
	err := s.db.Query(ctx, op, findMissing, func(rows pgx.Rows) error { return rows.Scan(&missing) })
	if err != nil || len(missing) == 0 {
		return err
	}
	return s.db.Run(ctx, op, func(_ context.Context, t *txn.Tx) error {
		queueDDL(t, makeSequences, 0, 0)
		return nil
	})
}

// replaceFirstPart puts a partition from first on in the place of the one of the migration.
func (s *Store) replaceFirstPart(ctx context.Context, t *txn.Tx, first int64) error {
	part := partition{lower: first + 1, upper: first + 1 + s.opt.partitionMin}
	return s.changeTables(ctx, t, func(t *txn.Tx) {
		queueDDL(t, dropFirstPart, 1, 0)
		queueDDL(t, createPart, part.lower, part.upper)
		t.Queue(insertPart, partColumns.Only("lower", "upper").Values(nil, &part)...)
	})
}

// MoveHome makes the server of this connection the home of a cell with data that has moved here. Run it while no program uses the
// cell. It continues ids and tokens past all in use, and begins the feed by the transaction ids of this server (AfterRestore).
func (s *Store) MoveHome(ctx context.Context, cell int) (server string, err error) {
	const op = "move home"
	recorded, found, server, err := s.ReadHome(ctx)
	if err != nil {
		return "", err
	}
	if found && recorded.Cell != cell || !found && cell > 0 {
		return "", &queue.Error{Op: op, Kind: queue.KindConflict, Subject: fmt.Sprintf("cell %d", cell), Msg: "the schema must be that of the cell; correct the url or the schema"}
	}
	if err := s.makeMissingSequences(ctx, op); err != nil {
		return "", err
	}
	if err := s.AfterRestore(ctx); err != nil {
		return "", err
	}
	return server, s.db.Run(ctx, op, func(_ context.Context, t *txn.Tx) error {
		t.Queue(writeHome, arg("cell", cell), arg("server", server))
		return nil
	})
}

// OpenCell opens the Store of a cell and checks that it can work: the server is the home of the cell, the schema is that of the
// cell and has the version of this program. The caller must close the Store.
func OpenCell(ctx context.Context, c queue.Cell, opts ...Option) (*Store, error) {
	opts = append(slices.Clone(opts), WithSchema(cmp.Or(c.Schema, DefaultSchema)), WithDDLURL(c.DDLURL), WithHome(c.Home))
	s, err := Open(ctx, c.URL, opts...)
	if err != nil {
		return nil, err
	}
	if err = s.Ping(ctx); err == nil {
		err = s.CheckHome(ctx, c.ID)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
