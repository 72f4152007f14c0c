package connectclient_test

import (
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// TestService holds the whole way, client, wire, server and manager, to the contract, over each protocol and with the
// worker's stream in place of the unary calls.
func TestService(t *testing.T) {
	ways := map[string]func(t testing.TB, s *stack) queue.Service{
		"stream": func(t testing.TB, s *stack) queue.Service { t.Helper(); return scoped{stream(t, s.client(t)), t} },
		"compressed": func(t testing.TB, s *stack) queue.Service {
			t.Helper()
			return s.client(t, connectclient.WithCompression())
		},
	}
	for _, p := range protocols {
		ways[string(p)] = func(t testing.TB, s *stack) queue.Service {
			t.Helper()
			return s.client(t, connectclient.WithProtocol(p))
		}
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stacks sync.Map
			of := func(s queue.Service) *stack {
				v, ok := stacks.Load(s)
				if !ok {
					t.Fatal("not a service of this harness")
				}
				return v.(*stack)
			}
			queuetest.TestService(t, queuetest.ServiceHarness{
				New: func(t testing.TB) queue.Service {
					t.Helper()
					st := serve(t)
					c := way(t, st)
					stacks.Store(c, st)
					return c
				},
				Advance: func(_ testing.TB, s queue.Service, d time.Duration) { of(s).clock.Advance(d) },
				Chores: func(t testing.TB, s queue.Service) {
					t.Helper()
					for more := true; more; {
						more = false
						for _, chore := range queue.Chores() {
							did, err := of(s).store.Maintain(t.Context(), chore)
							if err != nil {
								t.Fatal(err)
							}
							more = more || did.More
						}
					}
				},
			})
		})
	}
}

// scoped makes what In gives a stream too.
type scoped struct {
	*connectclient.Stream
	t testing.TB
}

func (s scoped) In(namespace string) (queue.Service, error) {
	in, err := s.Stream.In(namespace)
	if err != nil {
		return nil, err
	}
	return scoped{stream(s.t, in.(*connectclient.Client)), s.t}, nil
}
