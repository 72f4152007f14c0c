package cmdutil

import "testing"

func TestNearest(t *testing.T) {
	for pair, want := range map[[2]string]int{{"status", "statsu"}: 2, {"", "abc"}: 3, {"queue", "queue"}: 0, {"limit", "limits"}: 1} {
		if got := editDistance(pair[0], pair[1]); got != want {
			t.Errorf("%q to %q: %d, want %d", pair[0], pair[1], got, want)
		}
	}
	names := []string{"tasks", "task", "queues", "create-queue", "run", "top"}
	for name, want := range map[string]string{"taskss": "tasks", "quques": "queues", "create-q": "create-queue", "frobnicate": "", "x": "", "frob": ""} {
		if got := Nearest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
