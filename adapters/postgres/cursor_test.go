package postgres

import (
	"testing"
	"time"
)

// TestResume has a pick begin at what earlier ones left, and leave to the next what it does not come to.
func TestResume(t *testing.T) {
	t.Run("a pick begins there, and no other", func(t *testing.T) {
		var l lanes
		l.init()
		q := l.lanesOfQueue(1)
		for lane := range int32(3) {
			q.advanceCursor(lane, 1000, time.Now())
		}
		for _, turn := range []int64{502, 501, 503} { // the first counts
			q.recordRemainder(1, turn)
		}
		turns := turnsOf(q)
		if turns[0] != 1000 || turns[1] != 500 || turns[2] != 1000 {
			t.Errorf("begun at %v", turns)
		}
		if again := turnsOf(q); again[1] != 1000 {
			t.Errorf("the next at %v", again)
		}
	})
	for _, c := range []struct {
		name   string
		rows   int // of the 10 that were asked for
		failed bool
		want   map[int32]int64
	}{
		{"one that found less than it asked for has read all", 9, false, nil},
		{"one that has enough leaves what is behind, and the lanes that it did not come to", 10, false, map[int32]int64{1: 700, 2: 601}},
		{"one that failed leaves everything", 0, true, map[int32]int64{0: 501, 1: 551, 2: 601}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l lanes
			l.init()
			q := l.lanesOfQueue(1)
			u := runQueue{
				pickQueue: &pickQueue{lanes: q}, most: 10, rows: c.rows, lastLane: 1, lastTurn: 699,
				resumed: map[int32]int64{0: 501, 1: 551, 2: 601},
			}
			u.returnCursors(c.failed)
			if len(q.rest) != len(c.want) {
				t.Errorf("left is %v, want %v", q.rest, c.want)
			}
			for priority, turn := range c.want {
				if q.rest[priority] != turn {
					t.Errorf("left is %v, want %v", q.rest, c.want)
				}
			}
		})
	}
}

// turnsOf are the turns, by priority, behind which a pick from the cursors begins.
func turnsOf(q *queueLanes) map[int32]int64 {
	cursors, _ := q.appendCursors(nil, fastLevel, 1)
	out := map[int32]int64{}
	for _, cursor := range cursors {
		out[cursor.lane] = cursor.turn
	}
	return out
}
