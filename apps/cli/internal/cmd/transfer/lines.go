package transfer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// maxLine is the largest line in bytes. It exceeds the largest payload that a server can be set to accept.
const maxLine = 64 << 20

// record is a line of a file: a new task as REST accepts it, or a task as export writes it. Other fields are refused: a
// misspelt payload must not make a task without one.
type record struct {
	restapi.NewTask
	exported
}

// exported are the fields that export writes and import ignores: they record the course of the task.
type exported struct {
	ID              json.RawMessage `json:"id"`
	Namespace       json.RawMessage `json:"namespace"`
	Status          queue.Status    `json:"status"`
	Worker          json.RawMessage `json:"worker"`
	CreatedAt       json.RawMessage `json:"created_at"`
	StartedAt       json.RawMessage `json:"started_at"`
	FinishedAt      json.RawMessage `json:"finished_at"`
	DiesAt          json.RawMessage `json:"dies_at"`
	Retries         json.RawMessage `json:"retries"`
	Attempt         json.RawMessage `json:"attempt"`
	Lease           json.RawMessage `json:"lease"`
	Result          json.RawMessage `json:"result"`
	Errors          json.RawMessage `json:"errors"`
	Progress        json.RawMessage `json:"progress"`
	CancelRequested json.RawMessage `json:"cancel_requested"`
	Replayed        json.RawMessage `json:"replayed"`
}

// reader turns lines into tasks.
type reader struct {
	scan     *bufio.Scanner
	queue    string // of lines without a queue, and of payloads
	payloads bool   // a line is a payload as a whole
	label    string // makes keys for lines that have none; "" = no keys
	any      bool   // also import tasks that did not wait at their export
	now      time.Time

	line  int
	bytes int64                  // read so far
	left  map[queue.Status]int64 // lines left out, by status
}

func newLineReader(r io.Reader) *reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	out := &reader{scan: s, left: map[queue.Status]int64{}}
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n, token, err := bufio.ScanLines(data, atEOF)
		out.bytes += int64(n)
		return n, token, err
	})

	return out
}

// readLine returns the next task and its line, and io.EOF at the end. After a lineError the next call continues.
func (r *reader) readLine() (queue.NewTask, error) {
	for r.scan.Scan() {
		r.line++
		if b := bytes.TrimSpace(r.scan.Bytes()); len(b) > 0 {
			t, err := r.parseTask(b)
			if was, ok := errors.AsType[notWaiting](err); ok {
				r.left[queue.Status(was)]++
				continue
			}

			if err != nil {
				return t, &lineError{r.line, err}
			}

			return t, nil
		}
	}

	if err := r.scan.Err(); errors.Is(err, bufio.ErrTooLong) {
		return queue.NewTask{}, fmt.Errorf("line %d: must have at most %d bytes, got more; split it", r.line+1, maxLine)
	} else if err != nil {
		return queue.NewTask{}, err
	}

	return queue.NewTask{}, io.EOF
}

func (r *reader) parseTask(b []byte) (queue.NewTask, error) {
	t := queue.NewTask{Queue: r.queue}
	if r.payloads {
		t.Payload = bytes.Clone(b)
	} else {
		var rec record
		if err := restapi.Decode(b, &rec); err != nil {
			return t, explainNotTask(err)
		}

		if rec.Status != "" && !rec.Status.Valid() {
			return t, queue.Invalid("status", fmt.Sprintf("must be a status of a task, got %.64q; leave it out, or correct it", rec.Status))
		}

		if rec.Status != "" && !rec.Status.Waiting() && !r.any {
			return t, notWaiting(rec.Status)
		}

		line, err := rec.Domain()
		if err != nil {
			return t, err
		}

		if r.queue != "" {
			line.Queue = r.queue
		}

		if line.DelayedAt.Before(r.now) {
			// The time of an exported task may be long past.
			line.DelayedAt = time.Time{}
		}

		t = line
	}

	if t.Queue == "" {
		return t, queue.Invalid("queue", "must be a queue, got none; name one in the line or by --queue")
	}

	if t.Key == "" && r.label != "" {
		t.Key = r.deriveKey(b)
	}

	// The server limits the size of payloads.
	return t.Normalize(maxLine)
}

// explainNotTask explains why a line is not a task, with an example of one.
func explainNotTask(err error) error {
	e, ok := errors.AsType[*queue.Error](err)
	switch {
	case ok && strings.Contains(e.Msg, "unknown field"):
		return fmt.Errorf("%s: %s; a task must have these fields alone: %s", e.Field, e.Msg, strings.Join(listTaskFields(), ", "))
	case ok && e.Field == "body" && strings.HasPrefix(e.Msg, "must be an object"):
		return fmt.Errorf("%s; it must be as {\"queue\":\"mail\",\"payload\":{}}", e.Msg)
	case ok && e.Field == "body":
		return fmt.Errorf("%s; must be an object, as {\"queue\":\"mail\",\"payload\":{}}", e.Msg)
	}

	if ok {
		// encoding/json names the struct that a field is embedded by.
		return queue.Invalid(strings.TrimPrefix(e.Field, "NewTask."), e.Msg)
	}

	return err
}

// listTaskFields returns the JSON names of the fields of a new task.
func listTaskFields() (names []string) {
	for field := range reflect.TypeFor[restapi.NewTask]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// deriveKey returns the same key for the same line of the same file, so that a second run creates no task twice. The text
// of the line is part of the key, so a corrected or longer file continues where it differs.
func (r *reader) deriveKey(b []byte) string {
	h := sha256.New()
	_, _ = io.WriteString(h, r.label+"\x00"+strconv.Itoa(r.line)+"\x00")
	_, _ = h.Write(b)
	return "import-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// notWaiting is the error of a line with a task that was held or had ended at the export: a new task would repeat its work.
type notWaiting queue.Status

func (s notWaiting) Error() string { return "the task was " + string(s) }

// lineError is the error of one line.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }
