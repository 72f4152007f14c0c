package output

import (
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
)

// Column is one column of a table.
type Column[T any] struct {
	Head string
	// Wide columns show with -o wide only.
	Wide bool
	// Right aligns numbers.
	Right bool
	Cell  func(T) string
	Style func(T) iostreams.Style
}

// gap between columns.
const gap = "  "

func writeTable[T any](p *Printer, rows []T, columns []Column[T]) error {
	var shown []Column[T]
	for _, c := range columns {
		if !c.Wide || p.Format == Wide {
			shown = append(shown, c)
		}
	}

	// Row 0 is the head. All cells are made first, because the widths depend on all of them.
	cells := make([][]string, len(rows)+1)
	widths := make([]int, len(shown))
	for i := range cells {
		cells[i] = make([]string, len(shown))
		for j, c := range shown {
			cells[i][j] = c.Head
			if i > 0 {
				cells[i][j] = c.Cell(rows[i-1])
			}

			widths[j] = max(widths[j], ansi.StringWidth(cells[i][j]))
		}
	}

	var b strings.Builder
	for i, row := range cells {
		style := func(int) iostreams.Style { return iostreams.Faint }
		if i > 0 {
			style = func(j int) iostreams.Style {
				if shown[j].Style == nil {
					return iostreams.Plain
				}
				return shown[j].Style(rows[i-1])
			}
		}
		writeRow(&b, p, row, shown, widths, style)
	}

	_, err := io.WriteString(p.IO.Out, b.String())
	return err
}

// writeRow writes the cells of a row with padding to the widths of the columns.
func writeRow[T any](b *strings.Builder, p *Printer, row []string, columns []Column[T], widths []int, style func(int) iostreams.Style) {
	left := p.IO.Width
	for j, text := range row {
		last := j == len(row)-1
		if p.Format != Wide && last && p.IO.Width > 0 {
			// The last column is cut to the width of the terminal.
			text = ansi.Truncate(text, max(left, 8), "…")
		}

		pad := strings.Repeat(" ", max(0, widths[j]-ansi.StringWidth(text)))
		switch painted := p.IO.Paint(style(j), text); {
		case columns[j].Right:
			b.WriteString(pad + painted)
		case last:
			b.WriteString(painted)
		default:
			b.WriteString(painted + pad)
		}

		if !last {
			b.WriteString(gap)
		}
		left -= widths[j] + len(gap)
	}
	b.WriteByte('\n')
}
