package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/host"
	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

// process is a running server.
type process struct {
	cmd *exec.Cmd
	url string
	log tail
}

// startServer starts the shipped binary on the database of the run. The log holds only warnings: the cost of a line
// for each request depends on the reader of the log, and the benchmark has none. With a token the server is closed.
func (c *conductor) startServer(ctx context.Context, url, profile, token string) (*process, error) {
	// No other program takes ports during a benchmark, so the port is still free a moment later.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}

	p := &process{url: "http://" + addr}
	name, args := c.server, []string{"--addr", addr, "--log-level", "warn", url}
	if profile != "" {
		name, args = c.self, append([]string{"serve", profile}, args...)
	}

	p.cmd = exec.CommandContext(ctx, name, args...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 20 * time.Second
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	if token != "" {
		p.cmd.Env = append(p.cmd.Env, "PGQUEUE_ADMIN_TOKEN="+token)
	}
	p.cmd.Stderr = &p.log

	if err := p.cmd.Start(); err != nil {
		return nil, err
	}

	for end := time.Now().Add(time.Minute); time.Now().Before(end) && ctx.Err() == nil; plan.Pause(ctx, 20*time.Millisecond) {
		if p.ready(ctx) {
			return p, nil
		}
	}

	p.stop()
	return nil, fmt.Errorf("the server did not become ready: %s", p.log.text)
}

// ready reports whether the server answers that it is ready.
func (p *process) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/readyz", http.NoBody)
	if err != nil {
		return false
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// pid returns the number of the process.
func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the server gracefully, or after 30 s by force, and returns its usage.
func (p *process) stop() host.Usage {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: the server ended with %v: %s\n", err, p.log.text)
	}
	return host.UsageOf(p.cmd.ProcessState)
}

// tail keeps the end of the written bytes.
type tail struct{ text []byte }

// Write appends b. It keeps the last 2,000 to 4,000 bytes.
func (t *tail) Write(b []byte) (int, error) {
	const limit = 2000
	t.text = append(t.text, b...)
	if len(t.text) > 2*limit {
		t.text = append(t.text[:0], t.text[len(t.text)-limit:]...)
	}
	return len(b), nil
}
