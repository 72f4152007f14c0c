package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	serverrun "github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// TestCellsOfAServer starts a server over three databases that a file names, and asks for the cells.
func TestCellsOfAServer(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL; -short leaves it out")
	}
	var urls []string
	var lines strings.Builder
	lines.WriteString("cells:\n")
	for id := range 3 {
		url := postgrestest.URL(t)
		s := postgrestest.OpenURL(t, url)
		if _, err := s.MakeHome(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, url)
		fmt.Fprintf(&lines, "  - {id: %d, url: %q}\n", id, url)
	}
	fmt.Fprintf(&lines, "  - {id: 3, url: %q, closed: true}\n", "postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	file := filepath.Join(t.TempDir(), "cells.yaml")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}

	s, err := serverrun.Start(t.Context(), serverrun.Config{
		Addr: "127.0.0.1:0", Auth: serverrun.AuthOff, NoUI: true,
		Database: program.Database{URL: urls[0], CellsFile: file},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()

	seen := map[int]bool{}
	for i := range 12 {
		c, err := restclient.New(s.URL()+"/api", restclient.WithNamespace(fmt.Sprintf("team%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
			t.Fatal(err)
		}
		task, err := c.CreateTask(t.Context(), "mail", queue.TaskMeta{Payload: queue.EmptyJSON})
		if err != nil {
			t.Fatal(err)
		}
		seen[queue.CellOfID(task.ID)] = true
	}
	if len(seen) != 3 || seen[3] {
		t.Errorf("12 namespaces are in the cells %v", seen)
	}

	answer, err := http.Get(s.URL() + "/api/cell")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var list restapi.List[restapi.Cell]
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(list.Body) != 4 || !list.Body[2].Up || list.Body[3].Up || !strings.Contains(list.Body[3].Error, "cell 3") || list.Body[3].State != "closed" {
		t.Errorf("cells: %s", text)
	}
	metrics, err := http.Get(s.URL() + "/api/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	scraped, err := io.ReadAll(metrics.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`pgqueue_cell_up{cell="1"} 1`, `pgqueue_cell_up{cell="3"} 0`, `queue_tasks{namespace="team0"`} {
		if !strings.Contains(string(scraped), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(string(text), "postgres://") {
		t.Errorf("the answer has a connection string: %s", text)
	}
}

// TestCellCommands makes an installation of two cells by commands alone, and moves one to another database. The audit of cell 0 has
// each change, and no connection string.
func TestCellCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL; -short leaves it out")
	}
	first, second := postgrestest.Empty(t), postgrestest.Empty(t)
	on := []string{"--database-url", first}
	refuse := func(code int, word string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), filepath.Join(programs(t), "pgqueue"), append(args, on...)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != code || !strings.Contains(string(out), word) {
			t.Errorf("%q ends with %v, want exit code %d and %q:\n%s", args, err, code, word, out)
		}
		if strings.Contains(string(out), "postgres://") {
			t.Errorf("%q shows a connection string:\n%s", args, out)
		}
	}
	run := func(args ...string) string { t.Helper(); return runCommand(t, append(args, on...)...) }

	runCommand(t, "migrate", "up", first)
	refuse(2, "cell-url", "create-cell", "1")
	refuse(2, "cell-url", "create-cell", "0", "--cell-url", second)
	refuse(2, "cell: must be a number", "create-cell", "one", "--cell-url", second)
	refuse(3, "create it by pgqueue create-cell", "place", "billing", "--cell", "1")
	run("create-cell", "1", "--cell-url", second)
	refuse(4, "already", "create-cell", "1", "--cell-url", second)

	run("place", "billing", "--cell", "1")
	refuse(2, "--cell", "place", "billing")
	var list restapi.List[restapi.Cell]
	if err := json.Unmarshal([]byte(run("cells", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Body) != 2 || !list.Body[0].Up || !list.Body[1].Up || list.Body[1].Namespaces != 1 {
		t.Errorf("the cells are %+v", list.Body)
	}

	run("move-home", "1", "--cell-url", second)
	refuse(2, "cell-url", "move-home", "1")
	refuse(3, "cell 7", "move-home", "7", "--cell-url", second)

	audit := run("audit", "-o", "json")
	var entries restapi.AuditPage
	if err := json.Unmarshal([]byte(audit), &entries); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, e := range entries.Body {
		if e.Via != "cli" || e.PrincipalKind != "database" || len(e.Changes) != 1 || e.Changes[0].New != "1" {
			t.Errorf("the entry of a command is %+v", e)
		}
		if e.Outcome == "ok" {
			seen[e.Operation] = e.Namespace
		}
	}
	if want := map[string]string{"create_cell": "", "place_namespace": "billing", "move_home": ""}; !maps.Equal(seen, want) {
		t.Errorf("the audit has the changes %v, want %v", seen, want)
	}
	if strings.Contains(audit, "postgres://") {
		t.Errorf("the audit has a connection string: %s", audit)
	}
}
