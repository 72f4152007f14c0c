package restserver

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	listTasksInput struct {
		Queue          input.Name    `query:"queue" example:"mail" doc:"Only tasks of this queue"`
		Status         []string      `query:"status,explode" enum:"new,retry,retained,released,failed,expired,cancelled" example:"new" doc:"Only tasks in this status; repeat it for several"`
		Worker         string        `query:"worker" maxLength:"255" example:"w1" doc:"Only tasks that this worker held last, 1 to 255 bytes"`
		CreatedAfter   input.Instant `query:"created_after" example:"2026-01-02T15:04:05Z" doc:"Only tasks created later"`
		CreatedBefore  input.Instant `query:"created_before" example:"2026-01-03T15:04:05Z" doc:"Only tasks created earlier"`
		FinishedAfter  input.Instant `query:"finished_after" example:"2026-01-02T15:04:05Z" doc:"Only tasks that ended later"`
		FinishedBefore input.Instant `query:"finished_before" example:"2026-01-03T15:04:05Z" doc:"Only tasks that ended earlier"`
		Key            string        `query:"key" maxLength:"255" example:"order-17" doc:"Only tasks with this idempotency key"`
		Text           string        `query:"text" maxLength:"255" example:"ann@example.com" doc:"Only tasks with this text in their payload, byte by byte as it was sent; needs queue, and the right to read payloads"`
		input.Page
		Order string `query:"order" enum:"newest,oldest" example:"oldest" doc:"Which tasks come first; newest is the default"`

		Brief input.Flag `query:"brief" doc:"Leave out payloads, headers and progress, and shorten results to 2048 bytes, so that a page is full whatever the sizes"`
	}
	createTaskInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"255" example:"order-17" doc:"The task's key"`
		Body input.Body[restapi.NewTask, queue.NewTask]
	}
	createTasksInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"250" example:"order-17" doc:"The task at index i has the key KEY/i"`
		Body input.Bodies[restapi.NewTask, queue.NewTask]
	}
	awaitTaskInput struct {
		input.Task
		Wait input.Duration `query:"wait" example:"\"30s\"" doc:"How long to wait for the end, at most 10m"`
	}
)

// registerTasks binds the operations of tasks to their routes.
func (s *Server) registerTasks() {
	task := documentedAnswer{http.StatusOK, restapi.MediaJSON, restapi.Task{}}
	tasks := documentedAnswer{http.StatusOK, restapi.MediaJSON, restapi.List[restapi.Task]{}}
	const oneOrAll = "Without limit the answer is one task, or 404 when none is available; with limit a list, empty when none is."

	registerOperation(s, operation{
		Route: restapi.ListTasks,
		text: "The count is of all tasks that match, the body is this page. A page ends early when it reaches 3 MiB; only the absence of next marks the end. " +
			"A search for a text looks at most at 100,000 tasks, for 2 seconds: examined says how many, and next goes on.",
	}, listTasks)
	registerOperation(s, operation{
		Route: restapi.CreateTask, creates: true, status: http.StatusCreated, answers: []documentedAnswer{task},
		text: "With a key that a task of the queue has, the answer is that task, 200 and Idempotency-Replayed: true.",
	}, createTask)
	registerOperation(s, operation{
		Route: restapi.CreateTasks, creates: true, status: http.StatusCreated, answers: []documentedAnswer{tasks},
		text: "With Idempotency-Key the task at index i has the key KEY/i; a repeat is answered with the same tasks, 200 and Idempotency-Replayed: true.",
	}, createTasks)
	registerOperation(s, operation{
		Route: restapi.RetainAny, status: http.StatusOK, answers: []documentedAnswer{task, tasks}, text: oneOrAll,
	}, retainFromAny)
	registerOperation(s, operation{
		Route: restapi.RetainFrom, status: http.StatusOK, answers: []documentedAnswer{task, tasks}, text: oneOrAll,
	}, retainFromQueue)

	registerOperation(s, operation{Route: restapi.GetTask}, getTask)
	registerOperation(s, operation{Route: restapi.ReleaseTask}, releaseTask[restapi.Release])
	registerOperation(s, operation{Route: restapi.ReleaseTasks}, releaseTasks)
	registerOperation(s, operation{Route: restapi.HeartbeatTask}, heartbeatTask)
	registerOperation(s, operation{Route: restapi.HeartbeatTasks}, heartbeatTasks)
	registerOperation(s, operation{Route: restapi.SnoozeTask}, releaseTask[restapi.Snooze])
	registerOperation(s, operation{Route: restapi.HandBackTask, optionalBody: true}, releaseTask[restapi.HandBack])
	registerOperation(s, operation{Route: restapi.CancelTask}, moveTask(queue.Service.CancelTasks))
	registerOperation(s, operation{Route: restapi.RetryTask}, moveTask(queue.Service.RetryTasks))
	registerOperation(s, operation{Route: restapi.DeleteTask}, deleteTask)
	registerOperation(s, operation{Route: restapi.CancelTasks}, moveSelected(queue.Service.CancelTasks))
	registerOperation(s, operation{Route: restapi.RetryTasks}, moveSelected(queue.Service.RetryTasks))
	registerOperation(s, operation{Route: restapi.DeleteTasks}, moveSelected(queue.Service.DeleteTasks))
	registerOperation(s, operation{
		Route: restapi.AwaitTask,
		text:  "Answers as soon as the task is finished, or with the task as it is when wait is over.",
	}, awaitTask)
}

func listTasks(c *call, in *listTasksInput) (*output[restapi.List[restapi.Task]], error) {
	query := queue.TaskQuery{Page: in.Domain(), Brief: in.Brief.Value, TaskFilter: queue.TaskFilter{
		Queue: string(in.Queue), Statuses: statusesOf(in.Status), Worker: in.Worker,
		CreatedAfter: in.CreatedAfter.Value, CreatedBefore: in.CreatedBefore.Value,
		FinishedAfter: in.FinishedAfter.Value, FinishedBefore: in.FinishedBefore.Value, Key: in.Key, Text: in.Text,
	}}
	switch in.Order {
	case "", "newest":
	case "oldest":
		query.OldestFirst = true
	default:
		return nil, queue.Invalid("order", "must be newest or oldest, got "+restapi.Quote(in.Order))
	}

	p, err := c.svc.ListTasks(c.requestContext(), query)
	if err != nil {
		return nil, err
	}
	if err := c.boundRead(queue.TaskBytes(p.Tasks)); err != nil {
		return nil, err
	}
	return outputOf(func(p queue.TaskPage) restapi.List[restapi.Task] {
		return restapi.List[restapi.Task]{
			Count: p.Count, AtLeast: p.AtLeast, Examined: p.Examined, Body: restapi.Each(p.Tasks, restapi.TaskOf), Next: p.Next,
		}
	}, p, nil)
}

func statusesOf(names []string) []queue.Status {
	return restapi.Each(input.Split(names), func(name string) queue.Status { return queue.Status(name) })
}

func createTask(c *call, in *createTaskInput) (*creation[restapi.Task], error) {
	task := in.Body.Value
	if in.Key != "" {
		if task.Key != "" && task.Key != in.Key {
			return nil, queue.Invalid("key", "must be the same in the body and the header "+restapi.HeaderKey+"; leave one out")
		}
		task.Key = in.Key
	}

	t, err := c.svc.CreateTask(c.requestContext(), task.Queue, task.TaskMeta)
	if err != nil {
		return nil, err
	}
	created := []*queue.Task{t}
	c.boundCreated(created)
	return creationOf(created[0].Replayed, restapi.TaskOf(created[0])), nil
}

func createTasks(c *call, in *createTasksInput) (*creation[restapi.List[restapi.Task]], error) {
	tasks := in.Body.Values
	if in.Key != "" {
		if err := assignKeys(tasks, in.Key); err != nil {
			return nil, err
		}
	}

	created, err := c.svc.CreateTasks(c.requestContext(), tasks)
	if err != nil {
		return nil, err
	}
	c.boundCreated(created)
	isNew := func(t *queue.Task) bool { return !t.Replayed }
	replayed := len(created) > 0 && !slices.ContainsFunc(created, isNew)
	return creationOf(replayed, restapi.ListOf(restapi.Each(created, restapi.TaskOf))), nil
}

// boundCreated takes the bytes of a large answer of a create from the budget.
func (c *call) boundCreated(tasks []*queue.Task) {
	if give := c.cfg.Large.TakeCreated(c.requestContext(), tasks); give != nil {
		c.afterAnswer(give)
	}
}

// assignKeys gives each task of a batch its own key, made of the key of the batch and the index of the task.
func assignKeys(tasks []queue.NewTask, key string) error {
	// A batch has at most queue.MaxBatch tasks.
	const most = queue.MaxKeyBytes - len("/9999")
	if len(key) > most {
		return queue.Invalid(restapi.HeaderKey, fmt.Sprintf("must have at most %d bytes for a batch, got %d", most, len(key)))
	}
	for i := range tasks {
		if tasks[i].Key != "" {
			return queue.Invalid(fmt.Sprintf("tasks[%d].key", i), "must be absent when the header "+restapi.HeaderKey+" gives each task its key; leave one out")
		}
		tasks[i].Key = key + "/" + strconv.Itoa(i)
	}
	return nil
}

func getTask(c *call, in *input.Task) (*output[restapi.Task], error) {
	t, err := c.svc.GetTask(c.requestContext(), in.ID.Value)
	return c.taskOutput(t, err)
}

// taskOutput returns a task as an answer, within the budget for large answers.
func (c *call) taskOutput(t *queue.Task, err error) (*output[restapi.Task], error) {
	if err != nil {
		return nil, err
	}
	if err := c.boundRead(t.Bytes()); err != nil {
		return nil, err
	}
	return outputOf(restapi.TaskOf, t, nil)
}

func awaitTask(c *call, in *awaitTaskInput) (*output[restapi.Task], error) {
	if in.Wait.Value > queue.MaxWait {
		return nil, queue.Invalid("wait", fmt.Sprintf("must be at most %v, got %v", queue.MaxWait, in.Wait.Value))
	}
	ctx, done := c.extendDeadlines(in.Wait.Value)
	defer done()
	t, err := c.svc.AwaitTask(ctx, in.ID.Value, in.Wait.Value)
	return c.taskOutput(t, contextCause(ctx, err))
}
