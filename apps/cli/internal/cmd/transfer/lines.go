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
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// maxLine bounds a line: a payload of the largest size a server can be told to take is shorter.
const maxLine = 64 << 20

// record is a line of a file: what a new task says. The other fields of an exported task are not looked at.
type record struct {
	Queue     string            `json:"queue"`
	Payload   json.RawMessage   `json:"payload"`
	DelayedAt *time.Time        `json:"delayed_at"`
	Delay     *restapi.Duration `json:"delay"`
	Priority  int16             `json:"priority"`
	Key       string            `json:"key"`
	Headers   map[string]string `json:"headers"`
}

// reader turns lines into tasks.
type reader struct {
	scan     *bufio.Scanner
	queue    string // for lines that name none, and for payloads
	payloads bool   // a line is a payload as a whole
	label    string // makes keys for lines that have none; "" = no keys
	now      time.Time

	line  int
	bytes int64 // read so far
}

func newReader(r io.Reader) *reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	out := &reader{scan: s}
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n, token, err := bufio.ScanLines(data, atEOF)
		out.bytes += int64(n)
		return n, token, err
	})
	return out
}

// next is the next task and its line; io.EOF at the end. A lineError is of that line alone: the next call goes on.
func (r *reader) next() (queue.NewTask, error) {
	for r.scan.Scan() {
		r.line++
		if b := bytes.TrimSpace(r.scan.Bytes()); len(b) > 0 {
			t, err := r.task(b)
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

func (r *reader) task(b []byte) (queue.NewTask, error) {
	t := queue.NewTask{Queue: r.queue}
	if r.payloads {
		t.Payload = bytes.Clone(b)
	} else {
		var rec record
		if err := json.Unmarshal(b, &rec); err != nil {
			return t, notTask(err)
		}
		t.Payload, t.Priority, t.Key, t.Headers = rec.Payload, rec.Priority, rec.Key, rec.Headers
		if rec.Queue != "" && t.Queue == "" {
			t.Queue = rec.Queue
		}
		if rec.DelayedAt != nil && rec.DelayedAt.After(r.now) { // an exported task's may be long past
			t.DelayedAt = *rec.DelayedAt
		}
		d, err := rec.Delay.In("delay")
		if err != nil {
			return t, err
		}
		if d != nil {
			t.Delay = *d
		}
	}
	if t.Queue == "" {
		return t, queue.Invalid("queue", "the line names no queue; give --queue")
	}
	if t.Key == "" && r.label != "" {
		t.Key = r.key(b)
	}
	return t.Normalize(maxLine) // the size of payloads is the server's to judge
}

// notTask says why a line is none, where Go's own words are for programmers.
func notTask(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if e.Field == "" {
			return fmt.Errorf("an object is needed, as {\"queue\":\"mail\",\"payload\":{}}; this is a JSON %s", e.Value)
		}
		return fmt.Errorf("%s: a JSON %s does not belong there", e.Field, e.Value)
	}
	return fmt.Errorf("no JSON: %w", err)
}

// key is the same for the same line of the same file, and so keeps a second run from making its task again. The text of
// the line is part of it: a file that was mended, or that grew, is gone on with where it differs.
func (r *reader) key(b []byte) string {
	h := sha256.New()
	_, _ = io.WriteString(h, r.label+"\x00"+strconv.Itoa(r.line)+"\x00")
	_, _ = h.Write(b)
	return "import-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// lineError is what is wrong with one line.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }
