package e2e_test

import (
	"os"
	"path/filepath"
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
