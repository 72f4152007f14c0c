package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/adapters/cells"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// cellCommands returns the commands on the directory of cells. All of them connect to cell 0.
func cellCommands(f *factory.Factory) []*cobra.Command {
	return []*cobra.Command{newCellsCommand(f), newCreateCellCommand(f), newPlaceCommand(f), newMoveHomeCommand(f)}
}

// cellTarget holds the flags of a further cell.
type cellTarget struct {
	url    string
	ddlURL string
	schema string
	closed bool
}

func newCellsCommand(f *factory.Factory) *cobra.Command {
	var db database
	cmd := &cobra.Command{
		Use: "cells [URL]", Annotations: cmdutil.Reads(""),
		Short: "List the cells of an installation, and whether each can work",
		Long: "List the cells of an installation: whole schemas on one or more servers, each with everything of its namespaces.\n" +
			"The URL leads to cell 0, which has the directory. The exit code is 1 when a cell cannot work.",
		Example: "  pgqueue cells postgres://app@db0.example.org/app\n  pgqueue cells -o json",
		GroupID: cmdutil.GroupServer, Args: cmdutil.Args(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withCells(cmd.Context(), &db, args, func(s *cells.Store, _ *postgres.Store) error { return printCells(cmd.Context(), f, s) })
		},
	}
	db.defineFlags(cmd.Flags())
	return cmd
}

// withCells opens cell 0 and the cells of its directory, or of the cells file.
func withCells(ctx context.Context, db *database, args []string, do func(*cells.Store, *postgres.Store) error) error {
	first, err := db.openStore(ctx, args)
	if err != nil {
		return err
	}
	defer first.Close()
	if err := first.Ping(ctx); err != nil {
		return err
	}

	all, closeCells, err := db.OpenCells(ctx, slog.New(slog.DiscardHandler), first, program.Cells{})
	if err != nil {
		return err
	}
	defer closeCells()
	if s, ok := all.(*cells.Store); ok {
		return do(s, first)
	}

	// Without a directory the database is cell 0 alone.
	lone, err := cells.New(ctx, cells.NewMemory(queue.Cell{Schema: first.Schema(), State: queue.CellOpen}),
		func(context.Context, queue.Cell) (queue.Store, error) { return program.OwnedElsewhere(all), nil })
	if err != nil {
		return err
	}
	defer lone.Close()
	return do(lone, first)
}

func printCells(ctx context.Context, f *factory.Factory, s *cells.Store) error {
	p, err := f.Printer()
	if err != nil {
		return err
	}
	all, err := s.ListCells(ctx)
	if err != nil {
		return err
	}

	isBad := false
	list := restapi.List[restapi.Cell]{Count: int64(len(all))}
	for _, c := range all {
		isBad = isBad || c.Err != nil
		list.Body = append(list.Body, restapi.CellOf(c))
	}
	err = output.List(p, list, "there are no cells", []output.Column[restapi.Cell]{
		{Head: "CELL", Right: true, Cell: func(x restapi.Cell) string { return strconv.Itoa(x.ID) }},
		{Head: "SCHEMA", Cell: func(x restapi.Cell) string { return output.Clean(x.Schema) }},
		{Head: "STATE", Cell: func(x restapi.Cell) string { return x.State }},
		{Head: "NAMESPACES", Right: true, Cell: func(x restapi.Cell) string { return strconv.Itoa(x.Namespaces) }},
		{Head: "UP", Cell: func(x restapi.Cell) string { return strconv.FormatBool(x.Up) }, Style: func(x restapi.Cell) iostreams.Style {
			if x.Up {
				return iostreams.Green
			}
			return iostreams.Red
		}},
		{Head: "ERROR", Cell: func(x restapi.Cell) string { return output.Clean(x.Error) }},
	})
	if err == nil && isBad {
		return &cmdutil.Exit{Code: program.ExitFailed}
	}
	return err
}

// parseCell reads the number of a cell.
func parseCell(text string) (int, error) {
	id, err := strconv.Atoi(text)
	if err != nil || id < 0 || id >= queue.MaxCells {
		return 0, cmdutil.Usage("cell: must be a number from 0 to %d, got %.64q", queue.MaxCells-1, text)
	}
	return id, nil
}

func newCreateCellCommand(f *factory.Factory) *cobra.Command {
	var db database
	var to cellTarget
	cmd := &cobra.Command{
		Use: "create-cell CELL", Annotations: cmdutil.Changes(""),
		Short: "Make an empty schema a further cell of an installation",
		Long: "Make an empty schema a further cell: its tables, its range of ids, the record of its home, and its row in the directory.\n" +
			"--database-url leads to cell 0, --cell-url to the home of the new cell, the one server by which it is entered. On Citus\n" +
			"--cell-ddl-url leads to the coordinator. The first further cell also enters cell 0 into the directory. A repeat after a\n" +
			"failure goes on. Restart servers and workers that ran without cells.",
		Example: "  pgqueue create-cell 1 --database-url postgres://app@db0/app --cell-url postgres://app@db1/app",
		GroupID: cmdutil.GroupServer, Args: cmdutil.Args(1, 1, "the number of the cell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCell(args[0])
			if err != nil {
				return err
			}
			if id == 0 || to.url == "" {
				return cmdutil.Usage("cell-url: must come with a cell from 1 on, got cell %d and %q; give both", id, redactGiven(to.url))
			}
			return createCell(cmd.Context(), f, &db, id, to)
		},
	}
	db.defineFlags(cmd.Flags())
	to.defineFlags(cmd)
	cmd.Flags().BoolVar(&to.closed, "closed", false, "the cell takes only namespaces that are placed by hand")
	return cmd
}

// redactGiven names a connection string without its content, which may have a password.
func redactGiven(url string) string {
	if url == "" {
		return ""
	}
	return "a URL"
}

func (to *cellTarget) defineFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&to.url, "cell-url", "", "`URL` of the home of the cell")
	cmd.Flags().StringVar(&to.ddlURL, "cell-ddl-url", "", "`URL` of the server that changes the tables of the cell: the coordinator of Citus")
	cmd.Flags().StringVar(&to.schema, "cell-schema", program.DefaultSchema, "database `schema` of the tables of the cell")
}

func createCell(ctx context.Context, f *factory.Factory, db *database, id int, to cellTarget) error {
	first, err := db.openStore(ctx, nil)
	if err != nil {
		return err
	}
	defer first.Close()
	if err := first.Ping(ctx); err != nil {
		return err
	}
	// Cell 0 first: a directory with further cells alone would leave the present namespaces without a place.
	if err := enterFirstCell(ctx, first); err != nil {
		return err
	}

	cell := queue.Cell{ID: id, Schema: to.schema, URL: to.url, DDLURL: to.ddlURL, State: queue.CellOpen}
	if to.closed {
		cell.State = queue.CellClosed
	}
	maker, err := openTarget(ctx, cell)
	if err != nil {
		return err
	}
	defer maker.Close()
	// The schema knows its cell before the directory does, so a failure between the two is repeated safely.
	if cell.Home, err = maker.MakeHome(ctx, id); err == nil {
		err = first.AddCell(ctx, cell)
	}
	recordCommand(ctx, first, f.IO.Err, changeOfCell(opCreateCell, id), err)
	if errors.Is(err, queue.ErrAlreadyExists) {
		return queue.WithOp("create cell", err)
	}
	if err != nil {
		return err
	}
	p, err := f.Printer()
	if err == nil {
		p.Done("cell %d is there; its ids begin at %d", id, queue.FirstID(id)+1)
	}
	return err
}

// enterFirstCell enters cell 0 into its own directory, with the server of this connection as its home.
func enterFirstCell(ctx context.Context, first *postgres.Store) error {
	d, err := first.ReadDirectory(ctx)
	if err != nil || len(d.Cells) > 0 {
		return err
	}
	server, err := first.MakeHome(ctx, 0)
	if err != nil {
		return err
	}
	err = first.AddCell(ctx, queue.Cell{Schema: first.Schema(), Home: server, State: queue.CellOpen})
	if errors.Is(err, queue.ErrAlreadyExists) { // another command was first
		return nil
	}
	return err
}

// openTarget migrates the schema of a cell and opens it at its home.
func openTarget(ctx context.Context, cell queue.Cell) (*postgres.Store, error) {
	tables := cell.DDLURL
	if tables == "" {
		tables = cell.URL
	}
	// Tables change at the coordinator; the store itself connects to the home.
	maker, err := postgres.Open(ctx, tables, postgres.WithSchema(cell.Schema))
	if err != nil {
		return nil, err
	}
	_, err = maker.MigrateUp(ctx)
	maker.Close()
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, cell.URL, postgres.WithSchema(cell.Schema), postgres.WithDDLURL(cell.DDLURL))
}

func newPlaceCommand(f *factory.Factory) *cobra.Command {
	var db database
	cell := -1
	cmd := &cobra.Command{
		Use: "place NAMESPACE", Annotations: cmdutil.Changes(""),
		Short: "Put a namespace without queues and tickers into a cell",
		Long: "Put a namespace into a cell, before it has a queue or a ticker. Without this command its first queue or ticker chooses\n" +
			"an open cell. A namespace with data keeps its cell: move the cell instead.",
		Example: "  pgqueue place billing --cell 2 --database-url postgres://app@db0/app",
		GroupID: cmdutil.GroupServer, Args: cmdutil.Args(1, 1, "a namespace"),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, err := queue.NamespaceName(args[0])
			if err != nil {
				return err
			}
			if cell < 0 {
				return cmdutil.Usage("--cell: must be the number of a cell, got none; see pgqueue cells")
			}
			return withCells(cmd.Context(), &db, nil, func(s *cells.Store, first *postgres.Store) error {
				err := s.Pin(cmd.Context(), namespace, cell)
				e := changeOfCell(opPlace, cell)
				e.Namespace = namespace
				recordCommand(cmd.Context(), first, f.IO.Err, e, err)
				if err != nil {
					return err
				}
				p, err := f.Printer()
				if err == nil {
					p.Done("namespace %s is in cell %d", namespace, cell)
				}
				return err
			})
		},
	}
	db.defineFlags(cmd.Flags())
	cmd.Flags().IntVar(&cell, "cell", cell, "`number` of the cell (needed)")
	return cmd
}

func newMoveHomeCommand(f *factory.Factory) *cobra.Command {
	var db database
	var to cellTarget
	cmd := &cobra.Command{
		Use: "move-home CELL", Annotations: cmdutil.Changes(""),
		Short: "Make another server the home of a cell, after its data has moved there",
		Long: "Make another server the home of a cell. The steps:\n" +
			"  1. Stop all servers and workers, or pause the queues of the cell and stop the programs that enter it.\n" +
			"  2. Move the data: a dump and restore, a standby that takes over, or citus_schema_move.\n" +
			"  3. Run this command. It continues ids and tokens past all in use, begins the feed by the transactions of the new\n" +
			"     server, records the new home in the cell, and changes the row of the directory.\n" +
			"  4. Start the programs. A program that still connects to the old server is refused by name.\n" +
			"Readers of the feed start anew. For cell 0 give the new server as --database-url, and change the URL of all programs.",
		Example: "  pgqueue move-home 1 --database-url postgres://app@db0/app --cell-url postgres://app@db7/app",
		GroupID: cmdutil.GroupServer, Args: cmdutil.Args(1, 1, "the number of the cell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCell(args[0])
			if err != nil {
				return err
			}
			if (id == 0) != (to.url == "") {
				return cmdutil.Usage("cell-url: must come with a cell from 1 on, got cell %d and %q; the new home of cell 0 is --database-url", id, redactGiven(to.url))
			}
			return moveHome(cmd.Context(), f, &db, id, to)
		},
	}
	db.defineFlags(cmd.Flags())
	to.defineFlags(cmd)
	return cmd
}

func moveHome(ctx context.Context, f *factory.Factory, db *database, id int, to cellTarget) error {
	first, err := db.openStore(ctx, nil)
	if err != nil {
		return err
	}
	defer first.Close()
	d, err := first.ReadDirectory(ctx)
	if err != nil {
		return err
	}

	cell, found := queue.Cell{}, false
	for _, c := range d.Cells {
		if c.ID == id {
			cell, found = c, true
		}
	}
	if !found {
		return &queue.Error{Op: "move home", Kind: queue.KindNotFound, Subject: fmt.Sprintf("cell %d", id), Msg: "not found; create it by pgqueue create-cell"}
	}

	home := first
	if id > 0 {
		cell.URL, cell.DDLURL, cell.Schema = to.url, to.ddlURL, to.schema
		if home, err = postgres.Open(ctx, cell.URL, postgres.WithSchema(cell.Schema), postgres.WithDDLURL(cell.DDLURL)); err != nil {
			return err
		}
		defer home.Close()
	}
	// The new home records itself first. Until the row follows, programs are refused by name and change nothing.
	if cell.Home, err = home.MoveHome(ctx, id); err == nil {
		err = first.UpdateCell(ctx, cell)
	}
	recordCommand(ctx, first, f.IO.Err, changeOfCell(opMoveHome, id), err)
	if err != nil {
		return err
	}
	p, err := f.Printer()
	if err == nil {
		p.Done("cell %d is entered at its new home; start the programs", id)
	}
	return err
}
