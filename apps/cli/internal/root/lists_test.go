package root

import (
	"fmt"
	"strings"
	"testing"
)

// TestListsAreWholeOrSayThatTheyAreNot fills each list beyond a page.
func TestListsAreWholeOrSayThatTheyAreNot(t *testing.T) {
	s := newShell(t, startServer(t))
	const n = 1050
	var tasks strings.Builder
	for i := range n {
		s.must("create-queue", fmt.Sprintf("q%04d", i))
		s.must("create-ticker", fmt.Sprintf("t%04d", i), "--period", "1h")
		fmt.Fprintf(&tasks, "%d\n", i)
	}
	for range 25 {
		s.must("run-ticker", "t0000")
	}
	if code, _, errOut := s.run(false, tasks.String(), "create-task", "q0000", "--payload", "-"); code != 0 {
		t.Fatal(errOut)
	}
	rows := func(out string) int { return strings.Count(out, "\n") }
	for _, list := range []string{"queues", "tickers"} {
		name := map[string]string{"queues": ".queue", "tickers": ".ticker"}[list]
		for format, args := range map[string][]string{"jq": {"--jq", ".body[] | " + name}, "ndjson": {"-o", "ndjson"}} {
			if code, out, errOut := s.run(false, "", append([]string{list}, args...)...); code != 0 || rows(out) != n || errOut != "" {
				t.Errorf("%s %s: %d, %d rows, %s", list, format, code, rows(out), errOut)
			}
		}
		if _, out, errOut := s.run(true, "", list); rows(out) != n+1 || errOut != "" {
			t.Errorf("%s: %d rows %s", list, rows(out), errOut)
		}
		if _, out, errOut := s.run(false, "", list, "--offset", "1000", "--jq", ".body | length"); out != "50\n" || errOut != "" {
			t.Errorf("%s: %s %s", list, out, errOut)
		}
		if _, out, errOut := s.run(false, "", list, "--limit", "7", "--offset", "10", "--jq", ".body | length"); out != "7\n" || !strings.Contains(errOut, "7 of 1050; the next page: --offset 17 --limit 7") {
			t.Errorf("%s: %s %s", list, out, errOut)
		}
	}
	if _, out, errOut := s.run(false, "", "namespaces", "--limit", "1", "--jq", ".body | length"); out != "1\n" || !strings.Contains(errOut, "1 of 2; the next page: --offset 1 --limit 1") {
		t.Errorf("namespaces: %s %s", out, errOut)
	}
	for _, c := range []struct{ args, says string }{
		{"tasks -o ndjson", "100 of 1050; the next page: --cursor"},
		{"tasks --jq .count", "100 of 1050; the next page"},
		{"tasks", "100 of 1050; the next page"},
		{"tasks --limit 7 -o table", "7 of 1050"},
		{"ticks t0000", "20 of more; --limit shows more"},
	} {
		if code, _, errOut := s.run(false, "", strings.Fields(c.args)...); code != 0 || !strings.Contains(errOut, c.says) {
			t.Errorf("%s: %d %s", c.args, code, errOut)
		}
	}
	for _, args := range []string{"tasks --limit 7", "ticks t0000 --limit 25", "ticks t0000 --limit 1000", "namespaces", "stats -o ndjson"} {
		if code, _, errOut := s.run(false, "", strings.Fields(args)...); code != 0 || errOut != "" {
			t.Errorf("%s: %d %s", args, code, errOut)
		}
	}
}
