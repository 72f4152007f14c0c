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
	"strconv"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// maxLine bounds a line: a payload of the largest size a server can be told to take is shorter.
const maxLine = 64 << 20

// record is a line of a file: a new task as REST takes it, or a task as export writes it. Any other field is at fault: a
// misspelt payload must not be a task without one.
type record struct {
	restapi.NewTask
	exported
}

// exported are the fields that export writes and import leaves behind: they tell what became of the task.
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
	queue    string // for lines that name none, and for payloads
	payloads bool   // a line is a payload as a whole
	label    string // makes keys for lines that have none; "" = no keys
	any      bool   // also lines of tasks that did not wait when they were exported
	now      time.Time

	line  int
	bytes int64                  // read so far
	left  map[queue.Status]int64 // lines that were left out, by their status
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

// readLine is the next task and its line; io.EOF at the end. A lineError is of that line alone: the next call goes on.
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
		return queue.NewTask{}, fmt.Errorf("line %d: longer than %d bytes", r.line+1, maxLine)
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
			return t, queue.Invalid("status", fmt.Sprintf("%q is none that export writes", rec.Status))
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

		if line.DelayedAt.Before(r.now) { // an exported task's may be long past
			line.DelayedAt = time.Time{}
		}

		t = line
	}

	if t.Queue == "" {
		return t, queue.Invalid("queue", "the line names no queue; give --queue")
	}

	if t.Key == "" && r.label != "" {
		t.Key = r.deriveKey(b)
	}

	return t.Normalize(maxLine) // the size of payloads is the server's to judge
}

// explainNotTask says why a line is none, with what is one.
func explainNotTask(err error) error {
	e, ok := errors.AsType[*queue.Error](err)
	switch {
	case ok && e.Msg == "unknown field":
		return fmt.Errorf("%s: unknown field; a task has queue, payload, delayed_at, delay, priority, key and headers", e.Field)
	case ok && e.Field == "body" && strings.HasPrefix(e.Msg, "an object is needed"):
		return fmt.Errorf("%s; as {\"queue\":\"mail\",\"payload\":{}}", e.Msg)
	case ok && e.Field == "body":
		return fmt.Errorf("%s; an object is needed, as {\"queue\":\"mail\",\"payload\":{}}", e.Msg)
	}

	if ok { // encoding/json names the struct that a field is embedded by
		return queue.Invalid(strings.TrimPrefix(e.Field, "NewTask."), e.Msg)
	}

	return err
}

// deriveKey is the same for the same line of the same file, and so keeps a second run from making its task again. The text of
// the line is part of it: a file that was mended, or that grew, is gone on with where it differs.
func (r *reader) deriveKey(b []byte) string {
	h := sha256.New()
	_, _ = io.WriteString(h, r.label+"\x00"+strconv.Itoa(r.line)+"\x00")
	_, _ = h.Write(b)
	return "import-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// notWaiting says that the task of a line was held or had ended when it was exported: as a new task it would be done again.
type notWaiting queue.Status

func (s notWaiting) Error() string { return "the task was " + string(s) }

// lineError is what is wrong with one line.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }
