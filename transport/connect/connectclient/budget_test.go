package connectclient_test

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
)

func TestLargeAnswers(t *testing.T) {
	queuetest.TestLargeAnswers(t, func(t *testing.T, b *queue.Budget) queue.Service {
		return serve(t, connectserver.WithLargeAnswers(b)).client(t)
	})
}

func TestLargeBodies(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		queuetest.TestLargeBodies(t, func(t *testing.T, b *queue.Budget) queue.Service {
			return serve(t, connectserver.WithLargeBodies(b)).client(t)
		})
	})
	for name, protocol := range map[string]connectclient.Protocol{"connect": connectclient.Connect, "grpc": connectclient.GRPC} {
		t.Run("compressed over "+name, func(t *testing.T) {
			queuetest.TestLargeBodies(t, func(t *testing.T, b *queue.Budget) queue.Service {
				return serve(t, connectserver.WithLargeBodies(b)).client(t, connectclient.WithCompression(), connectclient.WithProtocol(protocol))
			})
		})
	}
	t.Run("a worker's stream", func(t *testing.T) {
		queuetest.TestLargeBodies(t, func(t *testing.T, b *queue.Budget) queue.Service {
			c := serve(t, connectserver.WithLargeBodies(b)).client(t)
			return scoped{stream(t, c), t}
		})
	})
}
