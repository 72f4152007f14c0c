package connectclient_test

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
)

func TestLargeAnswers(t *testing.T) {
	queuetest.TestLargeAnswers(t, func(t *testing.T, b *queue.Budget) queue.Service {
		return serve(t, connectserver.WithLargeAnswers(b)).client(t)
	})
}

func TestLargeBodies(t *testing.T) {
	queuetest.TestLargeBodies(t, func(t *testing.T, b *queue.Budget) queue.Service {
		return serve(t, connectserver.WithLargeBodies(b)).client(t)
	})
}
