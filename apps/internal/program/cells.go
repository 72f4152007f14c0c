package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/adapters/cells"
	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxCellsFile bounds a file of cells: 512 cells with long connection strings.
const maxCellsFile = 1 << 20

// cellsFile is the file of --cells-file.
type cellsFile struct {
	Cells []struct {
		ID     int    `yaml:"id"`
		URL    string `yaml:"url"`
		DDLURL string `yaml:"ddl_url"`
		Schema string `yaml:"schema"`
		Closed bool   `yaml:"closed"`
	} `yaml:"cells"`
}

// ReadCellsFile reads the cells of a YAML file. Its errors contain no connection string.
func ReadCellsFile(path string) ([]queue.Cell, error) {
	const field = "cells-file"
	file, err := os.Open(path)
	if err != nil {
		return nil, queue.Invalid(field, fmt.Sprintf("must be a file that can be read, got %.64q; correct the path: %s", path, Clean(err.Error())))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxCellsFile+1))
	if err != nil || len(text) > maxCellsFile {
		return nil, queue.Invalid(field, fmt.Sprintf("must have at most %d bytes, got more; shorten it", maxCellsFile))
	}

	var read cellsFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&read); err != nil {
		return nil, queue.Invalid(field, "must be YAML with a list \"cells\" of id, url, ddl_url, schema and closed, got another form; correct it")
	}

	out := make([]queue.Cell, len(read.Cells))
	for i, c := range read.Cells {
		at := fmt.Sprintf("%s: cells[%d].", field, i)
		if err := checkURL(at+"url", c.URL); err != nil {
			return nil, err
		}
		if c.URL == "" && c.ID != 0 {
			return nil, queue.Invalid(at+"url", "must be the URL of the cell's home, got none; write one")
		}
		if err := checkURL(at+"ddl_url", c.DDLURL); err != nil {
			return nil, err
		}
		out[i] = queue.Cell{ID: c.ID, URL: c.URL, DDLURL: c.DDLURL, Schema: c.Schema, State: queue.CellOpen}
		if out[i].Schema == "" {
			out[i].Schema = DefaultSchema
		}
		if c.Closed {
			out[i].State = queue.CellClosed
		}
	}
	return out, nil
}

// Cells are the options of the cells beside cell 0.
type Cells struct {
	// Migrate brings the schema of each cell to the version of this program.
	Migrate bool
	Options []postgres.Option
}

// OpenCells returns a Store over the cells of the installation with cell 0 in first: those of the cells file, or of the directory
// in first. It returns first itself when there are no cells. The second result closes the further cells, and not first.
func (d *Database) OpenCells(ctx context.Context, log *slog.Logger, first *postgres.Store, c Cells) (queue.Store, func(), error) {
	directory := queue.CellDirectory(first)
	if d.CellsFile != "" {
		list, err := ReadCellsFile(d.CellsFile)
		if err != nil {
			return nil, nil, err
		}
		if directory, err = cells.NewListed(list, first); err != nil {
			return nil, nil, err
		}
	}

	present, err := directory.ReadDirectory(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(present.Cells) == 0 {
		return first, func() {}, nil
	}

	opts := append([]postgres.Option{postgres.WithLogger(log), postgres.WithMaxConns(d.MaxConns)}, c.Options...)
	store, err := cells.New(ctx, directory, func(ctx context.Context, cell queue.Cell) (queue.Store, error) {
		if cell.ID == 0 {
			return OwnedElsewhere(first), first.CheckHome(ctx, 0)
		}
		if c.Migrate {
			if err := migrateCell(ctx, cell, opts); err != nil {
				return nil, err
			}
		}
		return postgres.OpenCell(ctx, cell, opts...)
	}, cells.WithLogger(log))
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}

// OwnedElsewhere returns s without its Close: the opener of s closes it.
func OwnedElsewhere(s queue.Store) queue.Store { return ownedElsewhere{s} }

// ownedElsewhere is a Store that its opener closes.
type ownedElsewhere struct{ queue.Store }

// Unwrap shows the Store behind, which has further powers.
func (o ownedElsewhere) Unwrap() queue.Store { return o.Store }

// migrateCell brings the schema of a cell to the version of this program, by the server that changes its tables.
func migrateCell(ctx context.Context, cell queue.Cell, opts []postgres.Option) error {
	url := cell.DDLURL
	if url == "" {
		url = cell.URL
	}
	store, err := postgres.Open(ctx, url, append(opts, postgres.WithSchema(cell.Schema))...)
	if err != nil {
		return err
	}
	defer store.Close()

	_, err = store.MigrateUp(ctx)
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Kind == queue.KindDenied {
		return store.Ping(ctx) // a role that may not migrate works with a schema of this version
	}
	return err
}
