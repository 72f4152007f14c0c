package e2e_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// TestATaskOutlivesTheTokenOfItsWorker: a token is revoked while its worker works a task. The worker keeps the result, says why it
// cannot deliver it, and delivers it with the next token of its file. The task runs once and costs one attempt.
func TestATaskOutlivesTheTokenOfItsWorker(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	t.Parallel() // it mostly waits for the worker to read its file again

	admin := access.NewSecret().Reveal()
	n := startNodeAt(t, postgrestest.URL(t), "--admin-token-file", writeSecret(t, admin))
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			svc := dialWith(t, n, "rest", admin)
			p := &plant{Client: svc.(*restclient.Client)}
			request := access.TokenRequest{Name: way, Grants: []string{"worker@default/" + way}}
			first, err := p.CreateToken(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			next, err := p.CreateToken(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}

			file := writeSecret(t, first.Secret.Reveal())
			dir := t.TempDir()
			h := startHand(t, way, dir, "--queue", way, "--protocol", way, "--url", n.url, "--auth-token-file", file)
			task := p.fill(t, queue.QueueMeta{Name: way, Lease: new(time.Minute)}, 1, "1")[0]
			awaitText(t, func() string { return strings.Join(ran(t, dir, task.ID), "") }, "1")
			if _, err := p.RevokeToken(t.Context(), first.ID); err != nil {
				t.Fatal(err)
			}

			awaitText(t, h.log.String, "cannot release tasks, trying on")
			renewed := filepath.Join(filepath.Dir(file), "next")
			if err := os.WriteFile(renewed, []byte(next.Secret.Reveal()), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(renewed, file); err != nil {
				t.Fatal(err)
			}
			p.released(t, way, 1)
			done, err := p.GetTask(t.Context(), task.ID)
			if err != nil || done.Attempt != 1 || !slices.Equal(ran(t, dir, task.ID), []string{"1"}) {
				t.Errorf("the task is %+v, %v, and its command ran as attempts %v; want one", done, err, ran(t, dir, task.ID))
			}
			for _, secret := range []access.Secret{first.Secret, next.Secret} {
				if strings.Contains(h.log.String(), secret.Reveal()) {
					t.Error("the log of the worker has its token")
				}
			}
		})
	}
}

// awaitText waits until a text that is read again and again contains a part.
func awaitText(t *testing.T, read func() string, part string) {
	t.Helper()
	for over := time.Now().Add(time.Minute); !strings.Contains(read(), part); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(over) {
			t.Fatalf("%q does not come in:\n%s", part, read())
		}
	}
}

// TestAWorkerStartsWithAWrongToken: a text that no server accepts ends the program before its first call. A token that the server
// refuses is said at once, with the remedy, in the log and by the readiness; the worker asks on until its file has a valid one, and a
// job ends, also beside a flood of wrong tokens from its address.
func TestAWorkerStartsWithAWrongToken(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	t.Parallel()
	admin := access.NewSecret().Reveal()
	n := startNodeAt(t, postgrestest.URL(t), "--admin-token-file", writeSecret(t, admin))
	svc := dialWith(t, n, "rest", admin)
	p := &plant{Client: svc.(*restclient.Client)}

	for name, text := range map[string]string{"a part of a token": admin[:40], "nothing": "", "two tokens": admin + "\n" + admin, "a session": "pgs_" + admin[4:]} {
		for _, program := range [][]string{{"pgqueue-worker"}, {"pgqueue", "work"}} {
			args := append(slices.Clone(program[1:]), "--queue", "mail", "--exec", "true", "--url", n.url, "--auth-token-file", writeSecret(t, text))
			out, err := exec.Command(filepath.Join(programs(t), program[0]), args...).CombinedOutput()
			var ended *exec.ExitError
			if !errors.As(err, &ended) || ended.ExitCode() != 2 || !strings.Contains(string(out), "--auth-token-file: must") || strings.Contains(string(out), admin) {
				t.Errorf("%v with %s: %v, %s", program, name, err, out)
			}
		}
	}

	for _, way := range ways {
		issued, err := p.CreateToken(t.Context(), access.TokenRequest{Name: way, Grants: []string{"worker@default/" + way}})
		if err != nil {
			t.Fatal(err)
		}
		file, dir := writeSecret(t, access.NewSecret().Reveal()), t.TempDir()
		h := startHand(t, way, dir, "--queue", way, "--protocol", way, "--url", n.url, "--auth-token-file", file, "--metrics-addr", "127.0.0.1:0")
		awaitText(t, h.log.String, "cannot retain tasks, trying on")
		if log := h.log.String(); !strings.Contains(log, "Authorization: must be a valid token") || !strings.Contains(log, "ask for a new one") {
			t.Errorf("%s: the log does not say why:\n%s", way, log)
		}
		addr := regexp.MustCompile(`"addr":"([^"]+)"`).FindStringSubmatch(h.log.String())
		if status, text := get(t, "http://"+addr[1]+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "must be a valid token") {
			t.Errorf("%s: /readyz is %d %s", way, status, text)
		}

		p.fill(t, queue.QueueMeta{Name: way}, 1, "0")
		renewed := writeSecret(t, issued.Secret.Reveal())
		if err := os.Rename(renewed, file); err != nil {
			t.Fatal(err)
		}
		p.released(t, way, 1)
		h.stop(t)
	}

	wrong := access.NewSecret().Reveal()
	for status := 0; status != http.StatusTooManyRequests; {
		status, _ = getAs(t, n.url+"/queue", wrong)
	}
	for _, way := range ways {
		begin := time.Now()
		job := exec.Command(filepath.Join(programs(t), "pgqueue-worker"), "--queue", way, "--exec", "true", "--protocol", way, "--url", n.url,
			"--auth-token-file", writeSecret(t, wrong), "--until-empty")
		out, err := job.CombinedOutput()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 1 || !strings.Contains(string(out), "must be valid, got another one") || time.Since(begin) > 10*time.Second {
			t.Errorf("%s: a job beside a flood: %v after %v, %s", way, err, time.Since(begin), out)
		}
	}
}

// get returns the status and the text of a page.
func get(t *testing.T, url string) (status int, text string) { return getAs(t, url, "") }

// getAs is get with a token.
func getAs(t *testing.T, url, token string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
