package serve

import (
	"context"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDemo waits until the demo has finished tasks in each way that its page shows first, and ends it.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	var cfg run.Config
	run.Flags(pflag.NewFlagSet("", pflag.ContinueOnError), &cfg)
	cfg.Addr = "127.0.0.1:0"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := runDemo(ctx, cfg, func(s *run.Server) {
		go func() {
			defer cancel()
			for {
				all, err := s.Service().ListQueueStatuses(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				released, delayed := map[string]int64{}, int64(0)
				for _, st := range all {
					released[st.Queue] = st.Counts[queue.StatusReleased]
					delayed += st.Delayed
				}
				if released["mail"] > 5 && released["thumbs"] > 0 && delayed > 0 {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	})
	if err != nil {
		t.Error(err)
	}
}
