package rest_test

import (
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/queuetest"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

func TestLargeAnswers(t *testing.T) {
	queuetest.TestLargeAnswers(t, func(t *testing.T, b *queue.Budget) queue.Service {
		return serve(t, newManager(t), func(c *restserver.Config) { c.Large = b }).client
	})
}

func TestLargeBodies(t *testing.T) {
	queuetest.TestLargeBodies(t, func(t *testing.T, b *queue.Budget) queue.Service {
		return serve(t, newManager(t), func(c *restserver.Config) { c.Bodies = b }).client
	})
}
