package connectclient

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// otherProcedure has the operations that a procedure of another name serves.
var otherProcedure = map[queue.Op]protoreflect.Name{
	queue.OpCleanQueueWithin:  "CleanQueue",
	queue.OpQueueStats:        "GetQueueStats",
	queue.OpQueueHistory:      "GetQueueHistory",
	queue.OpListQueueStatuses: "ListQueueStats",
	queue.OpRunTickerLoop:     "HandleTicks",
	queue.OpLastEvent:         "SubscribeEvents",
}

// otherOperation has the procedures beside those of the table of operations, and the operation that each serves.
var otherOperation = map[protoreflect.Name]queue.Op{
	"ReceiveTicks": queue.OpRunTickerLoop,
	"ScaleQueues":  queue.OpQueueStats,
	"Work":         queue.OpRetainTasks,
}

func TestEachOperationHasAProcedure(t *testing.T) {
	procedures := map[protoreflect.Name]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_pgqueue_v1_namespace_proto, pb.File_pgqueue_v1_task_proto, pb.File_pgqueue_v1_work_proto,
		pb.File_pgqueue_v1_queue_proto, pb.File_pgqueue_v1_ticker_proto, pb.File_pgqueue_v1_event_proto,
		pb.File_pgqueue_v1_access_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for k := range methods.Len() {
				procedures[methods.Get(k).Name()] = true
			}
		}
	}

	served := map[protoreflect.Name]bool{}
	for _, op := range slices.Concat(queue.ServiceOps(), queue.AdminOps()) {
		name := protoreflect.Name(op.Operation().Method)
		if other := otherProcedure[op]; other != "" {
			name = other
		}
		if !procedures[name] {
			t.Errorf("%s: the proto must have a procedure %s, got none", op.Operation().Method, name)
		}
		served[name] = true
	}

	for name := range procedures {
		if !served[name] && otherOperation[name] == 0 {
			t.Errorf("%s: no operation of the table is served by this procedure", name)
		}
	}
}
