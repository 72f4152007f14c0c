package top

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
)

var (
	faint  = lipgloss.NewStyle().Faint(true)
	bold   = lipgloss.NewStyle().Bold(true)
	chosen = lipgloss.NewStyle().Reverse(true)
	red    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	yellow = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
)

// View draws the screen.
func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.renderLines(), "\n"))
	v.AltScreen = true
	v.WindowTitle = "pgqueue top"
	return v
}

// renderLines returns the lines of the screen, within its height and width.
func (m *model) renderLines() []string {
	width, height := m.width, m.height
	if width == 0 || height == 0 {
		// The size is not known yet.
		return nil
	}

	clock := m.at
	if clock.IsZero() {
		clock = m.now()
	}

	head := "pgqueue top · " + output.Clean(m.title)
	out := []string{m.paintLine(bold, padToWidth(head, width-9)) + clock.Format(" 15:04:05"), ""}
	body := m.renderOverview
	foot := "↑↓ choose · p pause/resume · r retry failed · enter inspect · q quit"
	if m.inspecting {
		body = m.renderInspection
		foot = "↑↓ choose · r retry · esc back · q quit"
	}

	out = append(out, body(height-len(out)-2)...)
	// The last two lines are the note and the keys.
	if most := height - 2; len(out) > most {
		out = out[:most]
	}

	for len(out) < height-2 {
		out = append(out, "")
	}

	note := m.note
	if m.err != nil {
		note = "cannot look: " + m.err.Error()
	}

	out = append(out, m.paintLine(yellow, output.Clean(note)), m.paintLine(faint, foot))
	for i := range out {
		out[i] = ansi.Truncate(out[i], width, "…")
	}

	return out
}

func (m *model) paintLine(s lipgloss.Style, text string) string {
	if !m.color || text == "" {
		return text
	}
	return s.Render(text)
}

// renderOverview shows queues, workers and failures. Queues take half of the lines where they need them.
func (m *model) renderOverview(room int) []string {
	const row = "%-24s %8s %8s %8s %8s %8s %9s %8s %9s %9s"
	out := []string{m.paintLine(faint, fmt.Sprintf("  "+row, "QUEUE", "READY", "DELAYED", "RETAINED", "RETRY", "FAILED", "RELEASED", "OLDEST", "IN", "OUT"))}
	if len(m.stats) == 0 {
		out = append(out, "  no queues yet; make one with: pgqueue create-queue NAME")
	}

	// The chosen queue stays in the middle while the list is longer than its half of the screen.
	shown := max(1, room/2-1)
	from := max(0, min(m.selectedIndex()-shown/2, len(m.stats)-shown))
	for i := from; i < min(len(m.stats), from+shown); i++ {
		s := m.stats[i]
		name := s.Queue
		if s.Paused {
			name = ansi.Truncate(name, 15, "…") + " (paused)"
		}

		count := func(st queue.Status) string { return output.Number(s.Counts[st]) }
		line := fmt.Sprintf(row, ansi.Truncate(name, 24, "…"), output.Number(s.Ready), output.Number(s.Delayed), count(queue.StatusRetained),
			count(queue.StatusRetry), count(queue.StatusFailed), count(queue.StatusReleased), output.Duration(s.OldestReadyAge.Round(time.Second)),
			output.Rate(s.CreatedPerSecond), output.Rate(s.FinishedPerSecond))

		switch {
		case i == m.selectedIndex():
			line = "▶ " + m.paintLine(chosen, line)
		case s.Paused:
			line = "  " + m.paintLine(yellow, line)
		default:
			line = "  " + line
		}

		out = append(out, line)
	}

	out = append(out, "", m.paintLine(bold, fmt.Sprintf("WORKERS %d", len(m.workers))))
	// Workers take half of the lines that are left, and failures the rest.
	left := max(2, room-len(out)-2)
	for i, w := range m.workers {
		if i == max(1, left/2) {
			out = append(out, m.paintLine(faint, fmt.Sprintf("  and %d more", len(m.workers)-i)))
			break
		}

		out = append(out, fmt.Sprintf("  %-24s %5d held, the first %s  %s", ansi.Truncate(output.Clean(w.Name), 24, "…"), w.Held,
			output.Ago(w.Since, m.now()), strings.Join(w.Queues, " ")))
	}

	out = append(out, "", m.paintLine(bold, "RECENT FAILURES"))
	for _, t := range m.failures {
		out = append(out, m.renderFailure(t))
	}

	return out
}

func (m *model) renderFailure(t *queue.Task) string {
	line := fmt.Sprintf("  %-8d %-16s %-7s attempt %-3d %-12s %s", t.ID, ansi.Truncate(t.Queue, 16, "…"), t.Status, t.Attempt,
		output.Ago(t.StartedAt, m.now()), output.Clean(string(t.Result)))
	if t.Status == queue.StatusFailed {
		return m.paintLine(red, line)
	}
	return line
}

// renderInspection shows the failures of one queue and, below, the chosen one.
func (m *model) renderInspection(room int) []string {
	out := []string{m.paintLine(bold, "FAILURES OF "+m.selectedQueue().Queue)}
	if len(m.tasks) == 0 {
		return append(out, "  none")
	}

	shown := max(1, room/2-2)
	from := max(0, min(m.row-shown/2, len(m.tasks)-shown))
	for i := from; i < min(len(m.tasks), from+shown); i++ {
		line := m.renderFailure(m.tasks[i])
		if i == m.row {
			line = "▶ " + strings.TrimPrefix(ansi.Strip(line), "  ")
			line = m.paintLine(chosen, line)
		}

		out = append(out, line)
	}

	if m.task == nil {
		return out
	}

	out = append(out, "", m.paintLine(bold, fmt.Sprintf("TASK %d", m.task.ID)))
	for line := range strings.Lines(output.Pretty(m.task.Payload)) {
		out = append(out, "  "+strings.TrimRight(line, "\n"))
	}

	for _, e := range m.task.Errors {
		out = append(out, fmt.Sprintf("  attempt %d by %s, %s: %s", e.Attempt, output.Dash(e.Worker), output.Ago(e.At, m.now()), output.Clean(string(e.Error))))
	}

	return out
}

// padToWidth makes s n cells wide.
func padToWidth(s string, n int) string {
	s = ansi.Truncate(s, max(0, n), "…")
	return s + strings.Repeat(" ", max(0, n-ansi.StringWidth(s)))
}
