// Package output writes results: as a table for people, and as JSON, NDJSON, YAML, or through a jq expression for
// programs. The JSON is that of REST, field by field.
package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/itchyny/gojq"

	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Format is the format of results.
type Format string

// The formats.
const (
	Auto   Format = ""       // a table on a terminal, JSON otherwise
	Table  Format = "table"  // aligned columns
	Wide   Format = "wide"   // a table with all columns, not cut
	JSON   Format = "json"   // one value
	NDJSON Format = "ndjson" // a value a line
	YAML   Format = "yaml"
)

// Formats lists the values of -o.
func Formats() []string {
	return []string{string(Table), string(Wide), string(JSON), string(NDJSON), string(YAML)}
}

// Printer writes results.
type Printer struct {
	IO     *iostreams.IO
	Format Format
	query  *gojq.Code
}

// New returns a printer of format ("" = table on a terminal, else JSON), with an optional jq expression.
func New(streams *iostreams.IO, format, jq string) (*Printer, error) {
	p := &Printer{IO: streams, Format: Format(format)}
	switch p.Format {
	case Table, Wide, JSON, NDJSON, YAML:
	case Auto:
		// An expression works on JSON, so it makes JSON the format on a terminal too.
		if p.Format = JSON; streams.OutTTY && jq == "" {
			p.Format = Table
		}

	default:
		return nil, queue.Invalid("--output", fmt.Sprintf("must be one of %s, got %.64q", strings.Join(Formats(), ", "), format))
	}

	if jq == "" {
		return p, nil
	}

	if p.Format == Table || p.Format == Wide || p.Format == YAML {
		return nil, queue.Invalid("--jq", "must come with --output json or ndjson, or without --output; change --output")
	}

	q, err := gojq.Parse(jq)
	if err == nil {
		p.query, err = gojq.Compile(q)
	}

	if err != nil {
		return nil, queue.Invalid("--jq", err.Error())
	}

	return p, nil
}

// Human reports whether the format is for people.
func (p *Printer) Human() bool { return p.Format == Table || p.Format == Wide }

// Unshown is the error of a result that could not be shown: --jq failed, or the write failed.
type Unshown struct {
	// JSON is the result; nil when it is not known.
	JSON []byte
	Err  error
}

func (e *Unshown) Error() string { return e.Err.Error() }
func (e *Unshown) Unwrap() error { return e.Err }

// wrapUnshown wraps err, unless it is nil, with the result v.
func wrapUnshown(v any, err error) error {
	if err == nil {
		return nil
	}
	b, jsonErr := restapi.Append(nil, v)
	return &Unshown{b, errors.Join(err, jsonErr)}
}

// Value writes one JSON value in a format for programs.
func (p *Printer) Value(v any) error {
	b, err := restapi.Append(nil, v)
	if err != nil {
		return err
	}

	if err := p.writeJSON(b); err != nil {
		return &Unshown{b, err}
	}

	return nil
}

func (p *Printer) writeJSON(b []byte) error {
	switch {
	case p.query != nil:
		return p.writeQueryResults(b)
	case p.Format == YAML:
		return writeYAML(p.IO.Out, b)
	case p.Format == NDJSON || !p.IO.OutTTY:
		return p.writeBytes(append(b, '\n'))
	}

	// Only a person on a terminal needs the line breaks.
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}

	out.WriteByte('\n')

	return p.writeBytes(out.Bytes())
}

// writeBytes returns the error of a reader that has closed the pipe, as head does.
func (p *Printer) writeBytes(b []byte) error {
	_, err := p.IO.Out.Write(b)
	return err
}

// writeQueryResults writes the results of the expression over b, a line each: texts as they are, others as JSON.
func (p *Printer) writeQueryResults(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	// A large id stays exact.
	dec.UseNumber()
	var v any

	if err := dec.Decode(&v); err != nil {
		return err
	}

	iter := p.query.Run(v)
	for {
		out, ok := iter.Next()
		if !ok {
			return nil
		}

		if err, failed := out.(error); failed {
			return queue.Invalid("--jq", err.Error())
		}

		line, isText := out.(string)
		if isText && p.IO.OutTTY {
			// A terminal gets the text without control characters.
			line = cleanTextLines(line)
		}

		if !isText {
			text, err := gojq.Marshal(out)
			if err != nil {
				return err
			}

			line = string(text)
		}

		if err := p.writeBytes([]byte(line + "\n")); err != nil {
			return err
		}
	}
}

// cleanTextLines cleans each line of text. Tabs stay, because @tsv writes them.
func cleanTextLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		cells := strings.Split(line, "\t")
		for j := range cells {
			cells[j] = Clean(cells[j])
		}

		lines[i] = strings.Join(cells, "\t")
	}

	return strings.Join(lines, "\n")
}

// List writes a page of a list: as a table with columns, or as the JSON of REST.
func List[T any](p *Printer, list restapi.List[T], none string, columns []Column[T]) error {
	if list.Body == nil {
		list.Body = []T{}
	}

	switch {
	case p.Human():
		if len(list.Body) == 0 {
			fmt.Fprintln(p.IO.Err, none)
			return nil
		}

		return wrapUnshown(list, writeTable(p, list.Body, columns))

	case p.Format == NDJSON:
		for _, v := range list.Body {
			if err := p.Value(v); err != nil {
				// The error holds the whole list, because the position of the reader is unknown.
				return wrapUnshown(list, errors.Unwrap(err))
			}
		}

		return nil
	}

	return p.Value(list)
}

// Cut reports on stderr that a list is cut, and how to get more.
func (p *Printer) Cut(shown int, of, more string) {
	fmt.Fprintf(p.IO.Err, "%d of %s; %s\n", shown, of, more)
}

// One writes one entry: as lines of name and value, or as the JSON of REST.
func One(p *Printer, v any, fields func() []Field) error {
	if p.Human() {
		return wrapUnshown(v, writeDetails(p.IO, fields()))
	}
	return p.Value(v)
}

// Done confirms a change to people, on stderr, so that stdout holds results alone.
func (p *Printer) Done(format string, args ...any) {
	if !p.Human() {
		return
	}

	check := "✓"
	if p.IO.ErrTTY {
		// Color describes Out, and this is Err.
		check = p.IO.Paint(iostreams.Green, check)
	}

	fmt.Fprintf(p.IO.Err, "%s "+format+"\n", append([]any{check}, args...)...)
}

// Field is a line of One.
type Field struct {
	Name  string
	Value string
	Style iostreams.Style
}

func writeDetails(s *iostreams.IO, fields []Field) error {
	width := 0
	for _, f := range fields {
		width = max(width, len(f.Name))
	}

	var b strings.Builder

	for _, f := range fields {
		if f.Value == "" {
			continue
		}

		// A value of several lines, such as indented JSON, has its name on the first one.
		first := true
		for line := range strings.Lines(f.Value) {
			name := f.Name
			if !first {
				name = ""
			}

			first = false
			b.WriteString(s.Paint(iostreams.Faint, fmt.Sprintf("%-*s", width, name)) + "  " + s.Paint(f.Style, strings.TrimRight(line, "\n")) + "\n")
		}
	}

	_, err := io.WriteString(s.Out, b.String())

	return err
}

// Pretty formats JSON for people: indented if it does not fit a short line.
func Pretty(raw json.RawMessage) string {
	if len(raw) <= 72 {
		return Clean(string(raw))
	}

	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return Clean(string(raw))
	}

	// The line breaks of the indent stay; those inside of values are escaped in JSON.
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = Clean(lines[i])
	}

	return strings.Join(lines, "\n")
}
