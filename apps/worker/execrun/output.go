package execrun

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// head keeps the first most bytes of its input.
type head struct {
	most    int
	buf     []byte
	dropped int
}

func (h *head) Write(p []byte) (int, error) {
	keep := min(len(p), h.most-len(h.buf))
	h.buf = append(h.buf, p[:keep]...)
	h.dropped += len(p) - keep
	return len(p), nil
}

// encodeJSON returns the input as JSON: unchanged if it is JSON, or else as a text; nil if it is empty.
func (h *head) encodeJSON() json.RawMessage {
	b := bytes.TrimSpace(h.buf)
	if len(b) == 0 {
		return nil
	}

	if h.dropped == 0 && queue.CheckJSON("output", b, h.most) == nil {
		return b
	}

	doc := struct {
		Text    string `json:"text"`
		Dropped int    `json:"dropped_bytes,omitempty"`
	}{strings.ToValidUTF8(string(b), "\uFFFD"), h.dropped}
	out, err := json.Marshal(doc)
	if err != nil {
		// A valid string always marshals.
		return nil
	}

	return out
}

// lines keeps the end of its input and passes each line on.
type lines struct {
	most int
	line func(string)
	kept []byte // the end, of whole writes
	open []byte // the unfinished line, cut to most
}

func (l *lines) Write(p []byte) (int, error) {
	// At most the last most bytes of p can stay, so a large write needs no large buffer.
	l.kept = append(l.kept, p[max(0, len(p)-l.most):]...)
	if over := len(l.kept) - l.most; over > 0 {
		l.kept = l.kept[:copy(l.kept, l.kept[over:])]
	}

	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		part := rest
		if i >= 0 {
			part, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}

		l.open = append(l.open, part[:min(len(part), l.most-len(l.open))]...)
		if i >= 0 {
			l.endLine()
		}
	}

	return len(p), nil
}

// endLine ends the last line.
func (l *lines) endLine() {
	if s := strings.TrimRight(string(l.open), "\r"); s != "" {
		l.line(s)
	}
	l.open = l.open[:0]
}

func (l *lines) keptText() string { return strings.ToValidUTF8(string(l.kept), "\uFFFD") }
