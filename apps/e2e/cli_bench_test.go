package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// BenchmarkStart measures the time from the start of a server to its first answer, on a database that has its tables.
func BenchmarkStart(b *testing.B) {
	pg, err := embedded.Start(b.Context(), embedded.WithTemporary())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := pg.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	program := filepath.Join(programs(b), "pgqueue")
	if out, err := exec.CommandContext(b.Context(), program, "migrate", "up", pg.DSN()).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), program, "run", pg.DSN(), "--addr", "127.0.0.1:0")
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		_, err = out.Read(make([]byte, 1))
		b.StopTimer()
		if err := errors.Join(err, cmd.Process.Kill()); err != nil {
			b.Fatal(err)
		}
		_ = cmd.Wait()
		b.StartTimer()
	}
}

// BenchmarkToken compares creates with a token at a closed server with creates at an open one: ten interleaved pairs on one
// PostgreSQL, each of 4,000 single creates by 16 callers over REST. It reports the median of the ratios of their rates, and the
// smallest and the largest. Run it with -benchtime 1x.
func BenchmarkToken(b *testing.B) {
	const pairs, creates, callers = 10, 4_000, 16
	dsn := postgrestest.Empty(b)
	open := startNodeAt(b, dsn, "--auth", "off")
	secret := access.NewSecret().Reveal()
	b.Setenv("PGQUEUE_ADMIN_TOKEN", secret)
	closed := startNodeAt(b, dsn, "--auth", "on", "--background=false")
	dial := func(n *node, options ...restclient.Option) *restclient.Client {
		c, err := restclient.New(n.url, options...)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	ways := []*restclient.Client{dial(open), dial(closed, restclient.WithToken(func() string { return secret }))}
	if _, err := ways[1].CreateQueue(b.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		b.Fatal(err)
	}

	measure := func(c *restclient.Client) float64 {
		var left atomic.Int64
		left.Store(creates)
		var wg sync.WaitGroup
		began := time.Now()
		for range callers {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					if _, err := c.CreateTask(b.Context(), "mail", queue.TaskMeta{}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return creates / time.Since(began).Seconds()
	}

	for b.Loop() {
		ratios := make([]float64, pairs)
		for i := range ratios {
			rates := [2]float64{}
			for k := range ways {
				way := (i + k) % 2 // each comes first in half of the pairs
				rates[way] = measure(ways[way])
			}
			ratios[i] = rates[1] / rates[0]
		}
		slices.Sort(ratios)
		b.ReportMetric((ratios[pairs/2-1]+ratios[pairs/2])/2, "ratio")
		b.ReportMetric(ratios[0], "least")
		b.ReportMetric(ratios[pairs-1], "most")
	}
}

// BenchmarkImport measures pgqueue import of 100,000 lines. The program, the server and its durable PostgreSQL share
// this machine.
func BenchmarkImport(b *testing.B) {
	const lines = 100_000
	dir := dataDir(b)
	n := startNode(b, dir)
	n.pgqueue(b, "", "create-queue", "mail")
	file, err := os.Create(filepath.Join(b.TempDir(), "tasks.ndjson"))
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(file)
	for i := range lines {
		fmt.Fprintf(w, "{\"queue\":\"mail\",\"payload\":{\"to\":\"user%d@example.org\",\"subject\":\"Hello %d\",\"body\":%q}}\n", i, i, fmt.Sprintf("%0120d", i))
	}
	if err := errors.Join(w.Flush(), file.Close()); err != nil {
		b.Fatal(err)
	}
	for _, protocol := range []string{"rest", "connect"} {
		b.Run(protocol, func(b *testing.B) {
			run := 0
			for b.Loop() {
				run++
				n.pgqueue(b, "", "import", file.Name(), "--protocol", protocol, "--label", fmt.Sprintf("%s-%d-%d", protocol, b.N, run))
			}
			b.ReportMetric(lines*float64(run)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}
