package queue_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestFailureGrouper(t *testing.T) {
	at := func(minutes int) time.Time { return time.Date(2026, 1, 2, 15, minutes, 0, 0, time.UTC) }
	g := queue.NewFailureGrouper("default", "mail")
	for i, text := range []string{"user 1 is unknown", "no route", "user 2 is unknown", "no route", "user 3 is unknown"} {
		if !g.Add(queue.Failure{Task: int64(9 - i), At: at(9 - i), Error: queue.ErrorJSON(text)}) {
			t.Fatal("it is full")
		}
	}
	g.Add(queue.Failure{Task: 4, At: at(12)})

	got := g.Result()
	if got.Examined != 6 || got.More || got.Count != 3 || len(got.Groups) != 3 || got.Version != queue.FingerprintVersion || got.Queue != "mail" {
		t.Fatalf("got %+v", got)
	}
	first := got.Groups[0]
	if first.Message != "user <n> is unknown" || first.Count != 3 || fmt.Sprint(first.IDs) != "[9 7 5]" ||
		first.FirstAt != at(5) || first.LastAt != at(9) || first.Sample.Task != 9 || string(first.Sample.Error) != `{"error":"user 1 is unknown"}` {
		t.Errorf("got %+v", first)
	}
	if got.Groups[1].Message != "no route" || got.Groups[2].Sample.Task != 4 {
		t.Errorf("got %+v", got.Groups[1:])
	}

	bare := got.WithoutErrors()
	if text := fmt.Sprintf("%+v", bare); strings.Contains(text, "route") || strings.Contains(text, "unknown") || strings.Contains(text, first.ID) || bare.Groups[0].Count != first.Count {
		t.Errorf("an observer gets %s", text)
	}
	if got.Groups[0].Message == "" {
		t.Error("the answer of others changed")
	}
}

// TestOrderOfFailuresShowsNoFingerprint: groups of one size and time stand in the order of their tasks. The order of their hashes would
// confirm guesses of their errors.
func TestOrderOfFailuresShowsNoFingerprint(t *testing.T) {
	g := queue.NewFailureGrouper("default", "mail")
	at := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	var want []int64
	for id := int64(20); id > 0; id-- {
		g.Add(queue.Failure{Task: id, At: at, Error: queue.ErrorJSON(string(rune('a' + id)))})
		want = append(want, id)
	}
	var got []int64
	for _, group := range g.Result().Groups {
		got = append(got, group.Sample.Task)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the groups stand in the order %v, want %v", got, want)
	}
}

func TestFailureGrouperIsBounded(t *testing.T) {
	g := queue.NewFailureGrouper("default", "mail")
	long := json.RawMessage(`{"error":"` + strings.Repeat("x", 5000) + `"}`)
	g.Add(queue.Failure{Task: 1, Error: long})
	for i := 1; i < queue.MaxFailures; i++ {
		name := strings.Map(func(digit rune) rune { return digit - '0' + 'a' }, strconv.Itoa(i)) // no number, so no two are alike
		g.Add(queue.Failure{Task: int64(i + 1), Error: queue.ErrorJSON(name)})
	}
	if g.Add(queue.Failure{Task: 99_999}) {
		t.Error("it takes more than it may")
	}

	got := g.Result()
	if got.Examined != queue.MaxFailures || !got.More || len(got.Groups) != queue.MaxFailureGroups || got.Count != queue.MaxFailures {
		t.Fatalf("got %d examined, more %v, %d of %d groups", got.Examined, got.More, len(got.Groups), got.Count)
	}
	for _, group := range got.Groups {
		if len(group.Sample.Error) > 2048 || !json.Valid(group.Sample.Error) {
			t.Fatalf("a sample has %d bytes: %s", len(group.Sample.Error), group.Sample.Error)
		}
	}
}
