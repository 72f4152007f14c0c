package connectclient_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
)

// TestClientsWithTheUsualMessageLimit: a client with a message limit of 4 MiB works 10 tasks of 900,000 bytes over
// each protocol, and no task loses an attempt.
func TestClientsWithTheUsualMessageLimit(t *testing.T) {
	for name, opts := range map[string][]connecthttp.Option{
		"gRPC":              {connecthttp.WithGRPC()},
		"gRPC-Web":          {connecthttp.WithGRPCWeb()},
		"Connect":           nil,
		"Connect with JSON": {connecthttp.WithProtoJSON()},
		"gRPC with JSON":    {connecthttp.WithGRPC(), connecthttp.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			fillLarge(t, s.svc, "big", 10, 900_000)
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetUnencryptedHTTP2(true)
			defer tr.CloseIdleConnections()
			work := pgqueuev1connect.NewWorkServiceClient(connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: tr}, s.url,
				append(opts, connecthttp.WithReadMaxBytes(4<<20), connecthttp.WithCompressors())...)))
			for worked := 0; worked < 10; {
				res := must[*pb.RetainTasksResponse](t)(work.RetainTasks(t.Context(), &pb.RetainTasksRequest{Worker: "w", Queue: []string{"big"}, Limit: 10}))
				if len(res.GetTasks()) == 0 {
					t.Fatalf("%d of 10 tasks came", worked)
				}
				for _, task := range res.GetTasks() {
					if task.GetAttempt() != 1 {
						t.Errorf("task %d: attempt %d", task.GetId(), task.GetAttempt())
					}
					must[*pb.ReleaseTasksResponse](t)(work.ReleaseTasks(t.Context(), &pb.ReleaseTasksRequest{Releases: []*pb.Release{
						{Id: task.GetId(), Token: task.GetLease().GetToken(), Outcome: pb.Outcome_OUTCOME_SUCCESS, Quiet: true},
					}}))
					worked++
				}
			}
		})
	}

	for _, streamed := range []bool{false, true} {
		t.Run(fmt.Sprint("a client that takes 1 MiB, over a stream: ", streamed), func(t *testing.T) {
			s := serve(t)
			fillLarge(t, s.svc, "big", 6, 300_000)
			c := s.client(t, connectclient.WithMaxMessageBytes(1<<20))
			retain := c.RetainTasks
			if streamed {
				retain = stream(t, c).RetainTasks
			}
			for _, want := range []int{2, 2, 2, 0} {
				ts := must[[]*queue.Task](t)(retain(context.WithoutCancel(t.Context()), queue.RetainRequest{Worker: "w", Limit: 10}))
				if len(ts) != want {
					t.Fatalf("%d tasks came, want %d", len(ts), want)
				}
			}
		})
	}
}

// TestATaskLargerThanAMessage: a client with a message limit below the size of a task gets an error that names the task and
// the other tasks. The task loses no attempt.
func TestATaskLargerThanAMessage(t *testing.T) {
	for _, streamed := range []bool{false, true} {
		t.Run(fmt.Sprint("over a stream: ", streamed), func(t *testing.T) {
			s := serve(t)
			fillLarge(t, s.svc, "big", 1, 1<<20)
			c := s.client(t, connectclient.WithMaxMessageBytes(1<<20))
			retain := c.RetainTasks
			if streamed {
				retain = stream(t, c).RetainTasks
			}
			ask := queue.RetainRequest{Worker: "w", Limit: 10}
			for range 2 {
				_, err := retain(t.Context(), ask)
				if queue.KindOf(err) != queue.KindTooLarge || !strings.Contains(err.Error(), "of queue big") {
					t.Fatal(err)
				}
			}
			fill(t, c, "small", 1, queue.QueueMeta{})
			if ts := must[[]*queue.Task](t)(retain(t.Context(), ask)); len(ts) != 1 || ts[0].Queue != "small" {
				t.Fatal(ts)
			}
			able := s.client(t)
			if ts := must[[]*queue.Task](t)(able.RetainTasks(t.Context(), ask)); len(ts) != 1 || ts[0].Attempt != 1 {
				t.Fatal(ts)
			}
		})
	}
}
