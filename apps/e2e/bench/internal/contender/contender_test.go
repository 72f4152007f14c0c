package contender_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/contender"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestMain(m *testing.M) {
	os.Exit(queuetest.VerifyGoroutines(func() int { return postgrestest.Main(m) }))
}

// TestPlay lets every contender play every script once with a few tasks. It does not check speed.
func TestPlay(t *testing.T) {
	if testing.Short() {
		t.Skip("-short runs without PostgreSQL")
	}
	small := plan.Plan{Tasks: 300, Batch: 50, Producers: 2, Workers: 20, Queues: 3, Rate: 200, Seconds: 0.3, Samples: 3}
	for _, x := range []struct {
		script  string
		who     []string
		phases  []string
		counted bool // the script counts each task
	}{
		{"drain", []string{contender.Ours, contender.River, contender.Gue, contender.Raw}, []string{"delay", "insert", "drain"}, true},
		{"live", []string{contender.Ours, contender.River, contender.Gue, contender.Raw}, []string{"delay", "live"}, false},
		{"offered", []string{contender.Ours, contender.River, contender.Gue}, []string{"delay", "offered"}, false},
		{"pickup", []string{contender.Ours, contender.River, contender.Gue}, []string{"delay", "rest", "pickup", "pickup apart"}, false},
	} {
		for _, who := range x.who {
			t.Run(x.script+"/"+who, func(t *testing.T) {
				p := small
				p.Contender, p.Scenario, p.URL = who, x.script, postgrestest.Empty(t)
				if who == contender.Gue {
					p.Schema = gueSchema(t)
				}
				phases := x.phases
				if p.Delayed = 70; who == contender.Raw { // raw SQL has no delayed tasks
					p.Delayed, phases = 0, phases[1:]
				}
				var out bytes.Buffer
				if err := contender.Play(t.Context(), p, plan.NewStage(strings.NewReader(strings.Repeat("\n", 20)), &out)); err != nil {
					t.Fatal(err)
				}
				var ended []string
				for dec := json.NewDecoder(&out); ; {
					var m struct {
						End    string
						Result plan.Result
					}
					if err := dec.Decode(&m); err == io.EOF {
						break
					} else if err != nil {
						t.Fatal(err)
					}
					if m.End == "" {
						continue
					}
					ended = append(ended, m.End)
					if x.counted && m.End != "delay" && m.Result.N != p.Tasks || m.Result.Errors > 0 {
						t.Errorf("%s: %+v", m.End, m.Result)
					}
				}
				if !slices.Equal(ended, phases) {
					t.Errorf("played %v, want %v", ended, phases)
				}
			})
		}
	}
}

// gueSchema returns the schema that gue's module ships as a file.
func gueSchema(t *testing.T) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/vgarvardt/gue/v5").Output()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "migrations", "schema.sql"))
	if err != nil {
		t.Fatal(err)
	}
	return string(schema)
}
