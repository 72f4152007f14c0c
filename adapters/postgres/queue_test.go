package postgres

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestKnownQueues: a known row is used for as long as its mark is the present one, and never for that of another history.
func TestKnownQueues(t *testing.T) {
	mark := queueMark{id: 7, xmin: 732, ctid: pgtype.TID{OffsetNumber: 2, Valid: true}, version: 2}
	mail := &storedQueue{id: 7, Queue: queue.Queue{Name: "mail"}}

	t.Run("each part of the mark counts", func(t *testing.T) {
		var k knownQueues
		k.rememberQueue(mark, mail, k.currentGeneration())
		if k.findQueue(mark) != mail {
			t.Error("the row is not known")
		}
		for name, change := range map[string]func(*queueMark){
			"id": func(m *queueMark) { m.id++ }, "xmin": func(m *queueMark) { m.xmin++ },
			"ctid": func(m *queueMark) { m.ctid.OffsetNumber++ }, "version": func(m *queueMark) { m.version++ },
		} {
			other := mark
			change(&other)
			if k.findQueue(other) != nil {
				t.Errorf("another %s finds the row", name)
			}
		}
	})

	t.Run("a row is known for a time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var k knownQueues
			k.rememberQueue(mark, mail, k.currentGeneration())
			time.Sleep(knownAge - time.Nanosecond)
			if k.findQueue(mark) == nil {
				t.Error("the row is forgotten early")
			}
			time.Sleep(time.Nanosecond)
			if k.findQueue(mark) != nil {
				t.Errorf("the row is known after %v", knownAge)
			}
		})
	})

	t.Run("what an earlier generation reads is not remembered", func(t *testing.T) {
		var k knownQueues
		generation := k.currentGeneration()
		k.forgetAll()
		k.rememberQueue(mark, mail, generation)
		if k.findQueue(mark) != nil {
			t.Error("the row is known")
		}
	})

	// A restored database, or a standby that lost commits, gives the same marks to other rows.
	for name, notice := range map[string]func(*Store){
		"a new connection": func(s *Store) { s.db.OnNewConnection() },
		"a fault":          func(s *Store) { s.db.OnFault(errors.New("terminating connection")) },
	} {
		t.Run(name+" forgets the rows", func(t *testing.T) {
			pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/none")
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			s, err := New(pool)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.known.rememberQueue(mark, mail, s.known.currentGeneration())
			notice(s)
			if s.known.findQueue(mark) != nil {
				t.Error("the row is known")
			}
		})
	}
}
