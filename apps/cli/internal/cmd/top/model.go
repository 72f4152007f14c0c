package top

import (
	"context"
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// model is the state of the screen. Calls run beside it and return as messages.
type model struct {
	ctx   context.Context //nolint:containedctx // bounds the calls that commands make
	svc   queue.Service
	now   func() time.Time
	every time.Duration
	title string
	color bool

	snapshot
	width, height int
	chosen        string // the queue; a name, as queues come and go
	note          string // effect of the last key
	err           error  // of the last refresh
	asking        string // queue with failed tasks to retry after a confirmation

	inspecting bool
	tasks      []*queue.Task // failures of the chosen queue
	row        int
	task       *queue.Task // one of them, with its errors
}

type (
	looked struct {
		snapshot
		err error
	}
	lookAgain struct{}
	did       struct {
		note string
		err  error
	}
	inspected struct {
		tasks []*queue.Task
		err   error
	}
	opened struct {
		task *queue.Task
		err  error
	}
)

// Init starts the refreshes.
func (m *model) Init() tea.Cmd { return m.scheduleRefresh() }

func (m *model) scheduleRefresh() tea.Cmd {
	return tea.Tick(m.every, func(time.Time) tea.Msg { return lookAgain{} })
}

func (m *model) refreshOverview() tea.Msg {
	s, err := readOverview(m.ctx, m.svc)
	s.at = m.now()
	return looked{s, err}
}

// callService returns a command that makes a call with a deadline.
func (m *model) callService(do func(ctx context.Context) tea.Msg) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(m.ctx, lookTimeout)
		defer cancel()
		return do(ctx)
	}
}

// Update handles a message.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case lookAgain:
		return m, m.refreshOverview
	case looked:
		// After an error the last overview stays on the screen, with its time.
		if m.err = msg.err; msg.err == nil {
			m.snapshot = msg.snapshot
		}

		return m, m.scheduleRefresh()

	case once:
		m.snapshot, m.at = msg.snapshot, m.now()

	case did:
		m.note = msg.note
		if msg.err != nil {
			m.note = msg.err.Error()
		}

		// At once, so that the effect of the key shows before the next refresh.
		return m, tea.Batch(m.inspectQueue(), m.refreshInspection())

	case inspected:
		m.tasks = msg.tasks
		// The list may have become shorter since the last refresh.
		m.row = min(m.row, max(0, len(m.tasks)-1))
		if msg.err != nil {
			m.note = msg.err.Error()
		}

		return m, m.openInspection()

	case opened:
		if m.task = msg.task; msg.err != nil {
			m.note = msg.err.Error()
		}

	case tea.KeyPressMsg:
		return m.handleKey(msg.String())
	}

	return m, nil
}

// inspectQueue refreshes the inspection once, beside the regular refreshes.
func (m *model) inspectQueue() tea.Cmd {
	return func() tea.Msg {
		s, err := readOverview(m.ctx, m.svc)
		if err != nil {
			return nil
		}
		return once{s}
	}
}

type once struct{ snapshot }

func (m *model) handleKey(key string) (tea.Model, tea.Cmd) {
	if key == "ctrl+c" || key == "q" {
		return m, tea.Quit
	}

	if name := m.asking; name != "" {
		m.asking = ""
		// Any other key is a no, so that a slip changes nothing.
		if key != "y" {
			m.note = "nothing was retried"
			return m, nil
		}

		return m, m.retrySelected(queue.Selection{Filter: &queue.TaskFilter{Queue: name, Statuses: []queue.Status{queue.StatusFailed}}})
	}

	m.note = ""
	if m.inspecting {
		return m.handleInspectionKey(key)
	}

	switch key {
	case "up", "k":
		m.moveSelection(-1)
		return m, nil
	case "down", "j":
		m.moveSelection(1)
		return m, nil
	}

	if st := m.selectedQueue(); st != nil {
		return m, m.handleQueueKey(key, st)
	}
	return m, nil
}

// handleQueueKey applies a key to the selected queue.
func (m *model) handleQueueKey(key string, st *queue.QueueStats) tea.Cmd {
	switch key {
	case "p":
		return m.togglePause(st)
	case "r":
		if st.Counts[queue.StatusFailed] == 0 {
			m.note = "no task of " + st.Queue + " has failed"
			return nil
		}
		m.asking = st.Queue
		m.note = fmt.Sprintf("retry %s of %s? y or n", output.Count(st.Counts[queue.StatusFailed], "failed task"), st.Queue)

	case "enter", "i":
		// The rows of the queue inspected before are dropped.
		m.inspecting, m.row, m.task, m.tasks = true, 0, nil, nil
		return m.refreshInspection()
	}
	return nil
}

func (m *model) handleInspectionKey(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "esc", "left", "backspace", "h":
		m.inspecting = false
	case "up", "k":
		m.row = max(0, m.row-1)
		return m, m.openInspection()

	case "down", "j":
		m.row = max(0, min(len(m.tasks)-1, m.row+1))
		return m, m.openInspection()

	case "r":
		if m.row < len(m.tasks) {
			if t := m.tasks[m.row]; t.Status == queue.StatusFailed {
				return m, m.retrySelected(queue.Selection{IDs: []int64{t.ID}})
			}

			m.note = "it waits for its next attempt already"
		}
	}

	return m, nil
}

// selectedIndex returns the index of the chosen queue.
func (m *model) selectedIndex() int {
	for i, s := range m.stats {
		if s.Queue == m.chosen {
			return i
		}
	}
	return 0
}

func (m *model) selectedQueue() *queue.QueueStats {
	if len(m.stats) == 0 {
		return nil
	}
	return m.stats[m.selectedIndex()]
}

func (m *model) moveSelection(by int) {
	if n := len(m.stats); n > 0 {
		m.chosen = m.stats[max(0, min(n-1, m.selectedIndex()+by))].Queue
	}
}

func (m *model) togglePause(st *queue.QueueStats) tea.Cmd {
	paused, note := !st.Paused, st.Queue+" is paused"
	if !paused {
		note = st.Queue + " is resumed"
	}

	return m.callService(func(ctx context.Context) tea.Msg {
		_, err := m.svc.UpdateQueue(ctx, st.Queue, queue.QueueMeta{Paused: &paused})
		return did{note, err}
	})
}

func (m *model) retrySelected(s queue.Selection) tea.Cmd {
	return m.callService(func(ctx context.Context) tea.Msg {
		got, err := m.svc.RetryTasks(ctx, s)
		return did{output.Count(got.Moved, "task") + " made new", err}
	})
}

func (m *model) refreshInspection() tea.Cmd {
	st := m.selectedQueue()
	if !m.inspecting || st == nil {
		return nil
	}

	return m.callService(func(ctx context.Context) tea.Msg {
		tasks, err := listFailures(ctx, m.svc, st.Queue)
		return inspected{tasks, err}
	})
}

// openInspection reads the errors of the chosen task.
func (m *model) openInspection() tea.Cmd {
	if m.row >= len(m.tasks) {
		m.task = nil
		return nil
	}

	id := m.tasks[m.row].ID
	return m.callService(func(ctx context.Context) tea.Msg {
		t, err := m.svc.GetTask(ctx, id)
		return opened{t, err}
	})
}
