package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestHealth(t *testing.T) {
	t.Run("ready when every check is well", func(t *testing.T) {
		h := telemetry.NewHealth()
		h.Add("store", func(context.Context) error { return nil })
		if err := h.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if code, body := get(t, h.Readyz(), "/readyz"); code != 200 || body != "ok\n" {
			t.Errorf("%d %q", code, body)
		}
	})
	t.Run("not ready when one is not, and it says which", func(t *testing.T) {
		h := telemetry.NewHealth()
		h.Add("store", func(context.Context) error { return errors.New("postgres://me:hunter2@host/db: refused") })
		h.Add("chores", func(context.Context) error { return nil })
		if err := h.Ready(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "store: ") {
			t.Error(err)
		}
		code, body := get(t, h.Readyz(), "/readyz")
		if code != 503 || !strings.HasPrefix(body, "store: ") || strings.Contains(body, "hunter2") {
			t.Errorf("%d %q", code, body)
		}
		code, body = get(t, h.Readyz(), "/readyz?verbose")
		var report struct {
			Status string
			Checks []struct{ Name, Status, Error string }
		}
		if err := json.Unmarshal([]byte(body), &report); err != nil || code != 503 || report.Status != "not ready" || len(report.Checks) != 2 ||
			report.Checks[0].Status != "failed" || report.Checks[1].Status != "ok" || strings.Contains(body, "hunter2") {
			t.Errorf("%d %s %v", code, body, err)
		}
		if code, _ := get(t, h.Livez(), "/livez"); code != 200 {
			t.Errorf("a process that answers lives, %d", code)
		}
	})
	t.Run("a notice that fails is reported and leaves the process ready", func(t *testing.T) {
		h := telemetry.NewHealth()
		h.Add("store", func(context.Context) error { return nil })
		h.AddNotice("background", func(context.Context) error { return errors.New("prune has failed") })
		if err := h.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if code, body := get(t, h.Readyz(), "/readyz"); code != 200 || body != "ok\n" {
			t.Errorf("%d %q", code, body)
		}
		code, body := get(t, h.Readyz(), "/readyz?verbose")
		if code != 200 || !strings.Contains(body, `"status": "ready"`) || !strings.Contains(body, "prune has failed") {
			t.Errorf("%d %s", code, body)
		}
	})
	t.Run("draining turns it off at once", func(t *testing.T) {
		h := telemetry.NewHealth()
		h.Add("store", func(context.Context) error { return nil })
		if err := h.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.Drain()
		if err := h.Ready(t.Context()); !errors.Is(err, telemetry.ErrDraining) {
			t.Error(err)
		}
		if code, body := get(t, h.Readyz(), "/readyz?verbose"); code != 503 || !strings.Contains(body, `"draining"`) {
			t.Errorf("%d %s", code, body)
		}
	})
	t.Run("a flood of probes costs one round a second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var rounds atomic.Int32
			h := telemetry.NewHealth()
			h.Add("store", func(context.Context) error {
				rounds.Add(1)
				time.Sleep(100 * time.Millisecond)
				return nil
			})
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if err := h.Ready(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := rounds.Load(); n != 1 {
				t.Errorf("%d rounds, want 1", n)
			}
			time.Sleep(time.Second)
			_ = h.Ready(t.Context())
			if n := rounds.Load(); n != 2 {
				t.Errorf("%d rounds, want 2", n)
			}
		})
	})
	t.Run("a check that hangs fails, and a request need not wait for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := telemetry.NewHealth()
			h.Add("store", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := h.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if err := h.Ready(t.Context()); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "store") {
				t.Error(err)
			}
		})
	})
	t.Run("a check that panics is not well", func(t *testing.T) {
		h := telemetry.NewHealth()
		h.Add("store", func(context.Context) error { panic("boom") })
		if err := h.Ready(t.Context()); err == nil {
			t.Error("ready")
		}
	})
	t.Run("background work that fails again and again is not well", func(t *testing.T) {
		failing := telemetry.FailingChores - 1
		c := telemetry.ChoresCheck(func() []manager.ChoreHealth {
			return []manager.ChoreHealth{{Chore: queue.ChorePrune, Failing: failing, LastError: errors.New("no")}}
		})
		if err := c(t.Context()); err != nil {
			t.Error(err)
		}
		failing++
		if err := c(t.Context()); err == nil || !strings.Contains(err.Error(), "prune") {
			t.Error(err)
		}
	})
	t.Run("queues that background work passes over are named", func(t *testing.T) {
		c := telemetry.ChoresCheck(func() []manager.ChoreHealth {
			h := manager.ChoreHealth{Chore: queue.ChoreTick}
			for range 12 {
				h.Faults = append(h.Faults, queue.Fault{Namespace: "shop", Subject: "ticker nightly", Err: errors.New("no such zone")})
			}
			return []manager.ChoreHealth{h}
		})
		err := c(t.Context())
		for _, want := range []string{"ticker nightly of namespace shop: no such zone", "2 more"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	})
	t.Run("the checks are metrics", func(t *testing.T) {
		s := newStack(t)
		h := telemetry.NewHealth()
		h.Add("store", s.store.Ping)
		h.Add("other", func(context.Context) error { return errors.New("no") })
		h.AddNotice("background", func(context.Context) error { return errors.New("no") })
		s.ok(s.tel.WatchHealth(h))
		s.want(1, "pgqueue_health_check", "check", "store")
		s.want(0, "pgqueue_health_check", "check", "other")
		s.want(0, "pgqueue_health_check", "check", "background")
		s.want(0, "pgqueue_ready")
	})
}
