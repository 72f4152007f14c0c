package seal

import (
	"encoding/binary"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Purpose says which part of a task is sealed, so that one does not open as another.
type Purpose string

// The purposes.
const (
	PurposePayload  Purpose = "payload"
	PurposeResult   Purpose = "result"
	PurposeProgress Purpose = "progress"
)

// Place is where sealed bytes belong. They open nowhere else.
type Place struct {
	Namespace string
	Queue     string
	Group     string
	Purpose   Purpose
}

// placeOf returns the place of a part of a task.
func placeOf(task *queue.Task, purpose Purpose) Place {
	return Place{Namespace: task.Namespace, Queue: task.Queue, Group: task.Group, Purpose: purpose}
}

// appendBound appends the additional data of the cipher: the version and the fields, each with its length before it, so that
// no two places have the same.
func (p Place) appendBound(b []byte) []byte {
	b = append(b, "pgqueue seal 1"...)
	for _, field := range [...]string{string(p.Purpose), p.Namespace, p.Queue, p.Group} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field))) //nolint:gosec // names are short
		b = append(b, field...)
	}
	return b
}

// boundBytes is the length of that data.
func (p Place) boundBytes() int {
	return len("pgqueue seal 1") + 16 + len(p.Purpose) + len(p.Namespace) + len(p.Queue) + len(p.Group)
}
