package cells

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Listed is a directory with a fixed list of cells, as a configuration file gives it. The places of namespaces are in another
// directory, which all processes share. It is safe for concurrent use.
type Listed struct {
	queue.CellDirectory // places
	cells               []queue.Cell
}

// NewListed returns a directory of the given cells with the places of another one.
func NewListed(cells []queue.Cell, places queue.CellDirectory) (*Listed, error) {
	seen := map[int]bool{}
	for _, c := range cells {
		if err := queue.CheckCell(c); err != nil {
			return nil, err
		}
		if seen[c.ID] {
			return nil, queue.Invalid("cells", "must have each cell once, got cell "+decimal(c.ID)+" twice; remove one")
		}
		seen[c.ID] = true
	}
	return &Listed{places, slices.Clone(cells)}, nil
}

// ReadDirectory implements queue.CellDirectory.
func (l *Listed) ReadDirectory(ctx context.Context) (queue.Directory, error) {
	d, err := l.CellDirectory.ReadDirectory(ctx)
	d.Cells = slices.Clone(l.cells)
	return d, err
}

// AddCell refuses: the list is fixed.
func (l *Listed) AddCell(context.Context, queue.Cell) error { return errListed() }

// UpdateCell refuses: the list is fixed.
func (l *Listed) UpdateCell(context.Context, queue.Cell) error { return errListed() }

func errListed() error {
	return &queue.Error{Kind: queue.KindConflict, Subject: "cells", Msg: "the configuration file lists the cells; change the file, then restart"}
}

// Memory is a directory in the memory of one process, for tests and for stores in memory. It is safe for concurrent use.
type Memory struct {
	mu     sync.Mutex
	cells  map[int]queue.Cell
	places map[string]int
}

// NewMemory returns a directory of the given cells, without places.
func NewMemory(cells ...queue.Cell) *Memory {
	m := &Memory{cells: map[int]queue.Cell{}, places: map[string]int{}}
	for _, c := range cells {
		m.cells[c.ID] = c
	}
	return m
}

// ReadDirectory implements queue.CellDirectory.
func (m *Memory) ReadDirectory(context.Context) (queue.Directory, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cells := slices.SortedFunc(maps.Values(m.cells), func(a, b queue.Cell) int { return a.ID - b.ID })
	return queue.Directory{Cells: cells, Places: maps.Clone(m.places)}, nil
}

// PlaceNamespace implements queue.CellDirectory.
func (m *Memory) PlaceNamespace(_ context.Context, namespace string, cell int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if present, ok := m.places[namespace]; ok {
		return present, nil
	}
	m.places[namespace] = cell
	return cell, nil
}

// MoveNamespace implements queue.CellDirectory.
func (m *Memory) MoveNamespace(_ context.Context, namespace string, from, to int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if present, ok := m.places[namespace]; !ok || present != from {
		return &queue.Error{Kind: queue.KindConflict, Subject: "namespace " + namespace, Msg: "is not in cell " + decimal(from) + " any more; read the places again"}
	}
	m.places[namespace] = to
	return nil
}

// AddCell implements queue.CellDirectory.
func (m *Memory) AddCell(_ context.Context, c queue.Cell) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.cells[c.ID]; taken {
		return &queue.Error{Kind: queue.KindAlreadyExists, Subject: "cell " + decimal(c.ID), Msg: "exists already; use another number"}
	}
	m.cells[c.ID] = c
	return nil
}

// UpdateCell implements queue.CellDirectory.
func (m *Memory) UpdateCell(_ context.Context, c queue.Cell) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, found := m.cells[c.ID]; !found {
		return &queue.Error{Kind: queue.KindNotFound, Subject: "cell " + decimal(c.ID), Msg: "not found; add it first"}
	}
	m.cells[c.ID] = c
	return nil
}
