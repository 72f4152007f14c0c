package restserver

import (
	"cmp"
	"net/http"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	getQueueInput struct {
		input.Named
		input.IfNoneMatch
	}
	updateQueueInput struct {
		input.Named
		input.IfMatch
		Body input.Body[restapi.QueueMeta, queue.QueueMeta]
	}
	// matchedInput is the input of a change of a queue or a ticker without a body.
	matchedInput struct {
		input.Named
		input.IfMatch
	}
	deleteQueueInput struct {
		input.Named
		input.IfMatch
		IfEmpty input.Flag `query:"if_empty" doc:"Refuse the call with 409 when the queue has unfinished tasks"`
	}
	cleanQueueInput struct {
		input.Named
		Within input.Duration `query:"within" example:"\"2s\"" doc:"How long to work before answering, at most 5s, which is the default"`
		input.IfMatch
	}
)

// registerQueues binds the operations of queues to their routes.
func (s *Server) registerQueues() {
	registerOperation(s, operation{Route: restapi.ListQueues}, listQueues)
	registerOperation(s, operation{Route: restapi.CreateQueue, creates: true, status: http.StatusCreated}, createQueue)
	registerOperation(s, operation{Route: restapi.GetQueue}, getQueue)
	registerOperation(s, operation{Route: restapi.UpdateQueue}, updateQueue)
	registerOperation(s, operation{Route: restapi.DeleteQueue, text: "Answers with the queue as it was."}, deleteQueue)
	registerOperation(s, operation{Route: restapi.PauseQueue}, setPaused(true))
	registerOperation(s, operation{Route: restapi.ResumeQueue}, setPaused(false))
	registerOperation(s, operation{
		Route: restapi.CleanQueue,
		text:  "Works for some seconds at most; with more in the answer repeat the call.",
	}, cleanQueue)
	registerOperation(s, operation{Route: restapi.GetQueueStats}, getQueueStats)
	registerOperation(s, operation{
		Route: restapi.ScaleQueue,
		text: "The slots are those of the tasks in hand, and as many as work off the ready tasks within the time, by the measured time of a task. " +
			"A paused queue wants those in hand alone. Its concurrency and its rate limit bound a queue. Divide the slots by the concurrency of a worker.",
	}, scaleQueue)
}

func listQueues(c *call, in *input.Page) (*output[restapi.List[restapi.Queue]], error) {
	page, err := c.svc.ListQueues(c.requestContext(), in.Domain())
	err = boundRows(c, page.Queues, err)
	return outputOf(func(p queue.QueuePage) restapi.List[restapi.Queue] {
		return restapi.List[restapi.Queue]{Count: p.Count, Body: restapi.Each(p.Queues, restapi.QueueOf), Next: p.Next}
	}, page, err)
}

func createQueue(c *call, in *input.With[restapi.QueueMeta, queue.QueueMeta]) (*versioned[restapi.Queue], error) {
	q, err := c.svc.CreateQueue(c.requestContext(), in.Body.Value)
	return queueOutput(http.StatusCreated, q, err)
}

func getQueue(c *call, in *getQueueInput) (*versioned[restapi.Queue], error) {
	q, err := c.svc.GetQueue(c.requestContext(), string(in.Name))
	if err == nil && in.Has(q.Version) {
		return queueOutput(http.StatusNotModified, q, nil)
	}
	return queueOutput(http.StatusOK, q, err)
}

func updateQueue(c *call, in *updateQueueInput) (*versioned[restapi.Queue], error) {
	meta, name := in.Body.Value, string(in.Name)
	if err := refuseRename("queue", meta.Name, name, queue.QueueName); err != nil {
		return nil, err
	}

	meta.Name = ""
	meta.IfVersion = int64(in.Version.Value)
	q, err := c.svc.UpdateQueue(c.requestContext(), name, meta)
	return queueOutput(http.StatusOK, q, err)
}

// refuseRename refuses a body with another name than the path. An empty name counts as absent.
func refuseRename(field, given, path string, normalize func(string) (string, error)) error {
	if given == "" {
		return nil
	}
	name, err := normalize(given)
	if err != nil {
		return err
	}
	if inPath, err := normalize(path); err == nil && inPath != name {
		return queue.Invalid(field, "must be the name in the path, got "+restapi.Quote(given)+"; a name cannot change")
	}
	return nil
}

func deleteQueue(c *call, in *deleteQueueInput) (*output[restapi.Queue], error) {
	q, err := c.svc.DeleteQueue(c.requestContext(), string(in.Name), in.Version.Value, queue.IfEmpty(in.IfEmpty.Value))
	return outputOf(restapi.QueueOf, q, err)
}

// setPaused returns the route that pauses or resumes a queue.
func setPaused(paused bool) func(*call, *matchedInput) (*versioned[restapi.Queue], error) {
	return func(c *call, in *matchedInput) (*versioned[restapi.Queue], error) {
		meta := queue.QueueMeta{Paused: &paused, IfVersion: int64(in.Version.Value)}
		q, err := c.svc.UpdateQueue(c.requestContext(), string(in.Name), meta)
		return queueOutput(http.StatusOK, q, err)
	}
}

func cleanQueue(c *call, in *cleanQueueInput) (*output[restapi.Count], error) {
	// A step stays below the timeouts of clients; they repeat the call while there is more.
	within := cmp.Or(in.Within.Value, queue.BulkStep)
	cleaned, err := c.svc.CleanQueueWithin(c.requestContext(), string(in.Name), within, in.Version.Value)
	return outputOf(func(n queue.Cleaned) restapi.Count {
		return restapi.Count{Count: n.Count, More: n.More}
	}, cleaned, err)
}

type scaleQueueInput struct {
	input.Named
	Within input.Duration `query:"within" example:"\"30s\"" doc:"The time in which to work off the ready tasks, 1s to 24h; 30s is the default"`
	Queues []input.Name   `query:"queue,explode" example:"[\"hooks\"]" doc:"More queues of the same workers; may be repeated"`
}

func scaleQueue(c *call, in *scaleQueueInput) (*output[restapi.Scale], error) {
	within := queue.DefaultScaleWithin
	if in.Within.Given {
		within = in.Within.Value
	}
	names := []string{string(in.Name)}
	for _, name := range in.Queues {
		names = append(names, string(name))
	}
	scale, err := queue.ReadScale(c.requestContext(), c.svc, within, names...)
	return outputOf(restapi.ScaleOf, scale, err)
}

func getQueueStats(c *call, in *input.Named) (*output[restapi.QueueStats], error) {
	stats, err := c.svc.QueueStats(c.requestContext(), string(in.Name))
	return outputOf(restapi.QueueStatsOf, stats, err)
}
