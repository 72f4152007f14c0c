package restserver

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type queueHistoryInput struct {
	input.Named
	Step   string        `query:"step" enum:"minute,hour" example:"minute" doc:"The length of a point; minute is the default"`
	After  input.Instant `query:"after" example:"2026-01-02T15:04:00Z" doc:"Only points later than this"`
	Before input.Instant `query:"before" example:"2026-01-02T16:04:00Z" doc:"Only points earlier than this"`
}

func getQueueHistory(c *call, in *queueHistoryInput) (*output[restapi.QueueHistory], error) {
	h, err := c.svc.QueueHistory(c.requestContext(), string(in.Name), queue.HistoryQuery{
		Step: queue.HistoryStep(in.Step), After: in.After.Value, Before: in.Before.Value,
	})
	return outputOf(restapi.QueueHistoryOf, h, err)
}
