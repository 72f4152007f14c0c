package apply

import (
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestPruneKeepsAQueueThatGetsATask creates a task between the plan and the changes.
func TestPruneKeepsAQueueThatGetsATask(t *testing.T) {
	svc, err := manager.New(memory.New())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "busy", "z"} {
		if _, err := svc.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := readDefinitions("file", strings.NewReader("queues: {new: {}}\n"), queue.DefaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := planChanges(t.Context(), svc, all, true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	task, err := svc.CreateTask(t.Context(), "busy", queue.TaskMeta{})
	if err != nil {
		t.Fatal(err)
	}

	if err := applyPlan(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.GetTask(t.Context(), task.ID); err != nil {
		t.Errorf("the task is lost: %v", err)
	}
	page, err := svc.ListQueues(t.Context(), queue.Page{})
	if err != nil || len(page.Queues) != 2 || page.Queues[0].Name != "busy" || page.Queues[1].Name != "new" {
		t.Errorf("queues %v, want busy and new (%v)", page.Queues, err)
	}
	err = findKept(plan)
	if queue.KindOf(err) != queue.KindConflict || !strings.Contains(err.Error(), "queue busy") || !strings.Contains(err.Error(), "got 1") {
		t.Errorf("the error does not name the queue that was kept, and why: %v", err)
	}
}
