package wire_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/apps/server/run"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// way is a client of a server. Quick ways always run, the others only in the long form. The packages of the clients
// run all of them over memory.
type way struct {
	name   string
	quick  bool
	turned bool // the role of the store has all settings turned
	of     func(t testing.TB, s *run.Server) queue.Service
}

func ways() []way {
	over := func(p connectclient.Protocol) func(testing.TB, *run.Server) queue.Service {
		return func(t testing.TB, s *run.Server) queue.Service {
			t.Helper()
			return connect(t, s, connectclient.WithProtocol(p))
		}
	}
	return []way{
		{name: "rest", quick: true, of: func(t testing.TB, s *run.Server) queue.Service { t.Helper(); return rest(t, s) }},
		{name: "stream", quick: true, turned: true, of: func(t testing.TB, s *run.Server) queue.Service {
			t.Helper()
			st := connectclient.NewStream(connect(t, s))
			t.Cleanup(st.Close)
			return st
		}},
		{name: "connect", of: over(connectclient.Connect)},
		{name: "grpc", of: over(connectclient.GRPC), turned: true},
		{name: "grpcweb", of: over(connectclient.GRPCWeb)},
	}
}

// TestService checks client, protocol, server, telemetry and manager over PostgreSQL against the contract.
func TestService(t *testing.T) {
	needsDatabase(t)
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			if !w.quick && os.Getenv("PGQUEUE_TEST_FULL") == "" {
				t.Skip("in the long form, PGQUEUE_TEST_FULL=1")
			}
			var stores sync.Map
			store := func(t testing.TB, s queue.Service) *postgres.Store {
				t.Helper()
				v, ok := stores.Load(s)
				if !ok {
					t.Fatal("not a service of this harness")
				}
				return v.(*postgres.Store)
			}
			queuetest.TestService(t, queuetest.ServiceHarness{
				New: func(t testing.TB) queue.Service {
					t.Helper()
					dsn := postgrestest.URL(t)
					if w.turned {
						dsn = postgrestest.Turned(t, dsn, false)
					}
					s := postgrestest.OpenURL(t, dsn)
					c := w.of(t, start(t, s))
					stores.Store(c, s)
					return c
				},
				Advance: func(t testing.TB, s queue.Service, d time.Duration) {
					t.Helper()
					postgrestest.Advance(t, store(t, s), d)
				},
				Chores: func(t testing.TB, s queue.Service) { t.Helper(); queuetest.Chores(t, store(t, s)) },
			})
		})
	}
}
