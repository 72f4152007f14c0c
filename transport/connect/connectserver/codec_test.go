package connectserver

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// TestUnknownFields: the remedy is a similar name, or the fields of the message, and never the name that was given.
func TestUnknownFields(t *testing.T) {
	for body, c := range map[string]struct {
		m    proto.Message
		want string
	}{
		`{"nam":"mail"}`:                {&pb.GetQueueRequest{}, "nam: must be a field of this message, got an unknown field; the message takes namespace, queue"},
		`{"quue":"mail"}`:               {&pb.GetQueueRequest{}, "quue: must be a field of this message, got an unknown field; did you mean queue?"},
		`{"filter":{"queue":"mail"}}`:   {&pb.CancelTasksRequest{}, "filter: must be a field of this message, got an unknown field; the message takes namespace, selection"},
		`{"selection":{"statusses":1}}`: {&pb.CancelTasksRequest{}, "statusses: must be a field of this message, got an unknown field; the message takes namespace, selection"},
	} {
		err := protojson.Unmarshal([]byte(body), c.m)
		if err == nil {
			t.Errorf("%s: decodes", body)
			continue
		}
		if got := describeDecodeError(err, []byte(body), c.m); queue.KindOf(got) != queue.KindInvalid || got.Error()[:min(len(got.Error()), len(c.want))] != c.want {
			t.Errorf("%s: %v, want %s", body, got, c.want)
		}
	}
}
