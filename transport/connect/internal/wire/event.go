package wire

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// Event converts e for the wire.
func Event(e queue.Event) *pb.Event {
	return &pb.Event{
		Cursor: e.Cursor, Kind: eventKinds.numberOfWord(e.Kind), Namespace: e.Namespace, Queue: e.Queue, TaskId: e.TaskID,
		Worker: e.Worker, At: Time(e.At),
	}
}

// Event reads e from the wire.
func (r *Reader) Event(e *pb.Event) queue.Event {
	return queue.Event{
		Cursor: e.GetCursor(), Kind: eventKinds.wordOfNumber(e.GetKind()), Namespace: e.GetNamespace(), Queue: e.GetQueue(),
		TaskID: e.GetTaskId(), Worker: e.GetWorker(), At: r.Time("at", e.GetAt()),
	}
}

// EventFilter converts f for the wire.
func EventFilter(f queue.EventFilter) *pb.EventFilter {
	return &pb.EventFilter{
		Queue: f.Queue, Task: f.TaskID, Kind: eventKinds.numbersOfWords(f.Kinds), Status: statuses.numbersOfWords(f.Statuses),
		Worker: f.Worker, After: f.After,
	}
}

// ReadEventFilter reads f from the wire.
func ReadEventFilter(f *pb.EventFilter) queue.EventFilter {
	return queue.EventFilter{
		Queue: f.GetQueue(), TaskID: f.GetTask(), Kinds: eventKinds.wordsOfNumbers(f.GetKind()),
		Statuses: statuses.wordsOfNumbers(f.GetStatus()), Worker: f.GetWorker(), After: f.GetAfter(),
	}
}
