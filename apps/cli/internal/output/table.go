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
		left := p.IO.Width
		for j, text := range row {
			last := j == len(row)-1
			if p.Format != Wide && last && p.IO.Width > 0 {
				// The last column is cut to the width of the terminal.
				text = ansi.Truncate(text, max(left, 8), "…")
			}

			pad := strings.Repeat(" ", max(0, widths[j]-ansi.StringWidth(text)))
			style := iostreams.Faint
			if i > 0 {
				style = iostreams.Plain
				if shown[j].Style != nil {
					style = shown[j].Style(rows[i-1])
				}
			}

			switch {
			case shown[j].Right:
				b.WriteString(pad + p.IO.Paint(style, text))
			case last:
				b.WriteString(p.IO.Paint(style, text))
			default:
				b.WriteString(p.IO.Paint(style, text) + pad)
			}

			if !last {
				b.WriteString(gap)
			}

			left -= widths[j] + len(gap)
		}

		b.WriteByte('\n')
	}

	_, err := io.WriteString(p.IO.Out, b.String())

	return err
}
