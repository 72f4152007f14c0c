package cells

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func decimal(n int) string { return strconv.Itoa(n) }

// Pin puts a namespace into a cell, before it has a queue or a ticker. A namespace with rows keeps its cell: only its data can
// move, with the cell.
func (s *Store) Pin(ctx context.Context, namespace string, cell int) error {
	const op = "place namespace"
	if s.member(cell) == nil {
		return &queue.Error{Op: op, Kind: queue.KindNotFound, Subject: "cell " + decimal(cell), Msg: "not found; create it by pgqueue create-cell"}
	}
	if namespace == queue.SystemNamespace && cell != 0 {
		return queue.Invalid("namespace", fmt.Sprintf("must be a namespace of users, got %.64q; it stays in cell 0", namespace))
	}

	present, err := s.directory.PlaceNamespace(ctx, namespace, cell)
	if err != nil || present == cell {
		return err
	}
	m := s.member(present)
	if m == nil {
		return &queue.Error{Op: op, Kind: queue.KindUnavailable, Subject: "cell " + decimal(present), Msg: "is unknown; add it to the directory"}
	}

	// The check and the change are two steps: a queue that another process creates between them is found at its next start,
	// and refused by name.
	store, err := m.use(ctx)
	if err != nil {
		return err
	}
	queues, err := store.ListQueues(ctx, namespace, queue.Page{Limit: 1})
	if err != nil {
		return m.name(err)
	}
	tickers, err := store.ListTickers(ctx, namespace, queue.Page{Limit: 1})
	if err != nil {
		return m.name(err)
	}
	if len(queues.Queues)+len(tickers.Tickers) > 0 {
		return &queue.Error{
			Op: op, Kind: queue.KindConflict, Subject: "namespace " + namespace,
			Msg: fmt.Sprintf("must have no queue and no ticker to change its cell, got some in cell %d; move the cell instead, or delete them", present),
		}
	}
	return s.directory.MoveNamespace(ctx, namespace, present, cell)
}
