package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/embedded"
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
