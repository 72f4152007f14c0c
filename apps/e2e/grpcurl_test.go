package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fullstorydev/grpcurl"
	"github.com/golang/protobuf/proto" //nolint:staticcheck // grpcurl's interface uses it
	"github.com/jhump/protoreflect/grpcreflect"
	"google.golang.org/grpc"
)

// curl calls methods that it knows only by reflection.
type curl struct {
	*testing.T
	conn *grpc.ClientConn
	src  grpcurl.DescriptorSource
}

func newCurl(t *testing.T, addr string) *curl {
	t.Helper()
	conn, err := grpcurl.BlockingDial(t.Context(), "tcp", addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	ref := grpcreflect.NewClientAuto(t.Context(), conn)
	t.Cleanup(func() {
		ref.Reset()
		_ = conn.Close()
	})
	return &curl{T: t, conn: conn, src: grpcurl.DescriptorSourceFromServer(t.Context(), ref)}
}

// until receives answers and ends the call when enough returns true.
type until struct {
	*grpcurl.DefaultEventHandler
	out    *bytes.Buffer
	enough func(answer string) bool
	cancel context.CancelFunc
}

func (u *until) OnReceiveResponse(m proto.Message) {
	u.out.Reset()
	u.DefaultEventHandler.OnReceiveResponse(m)
	if u.enough(u.out.String()) {
		u.cancel()
	}
}

// call sends request and returns the last answer. With enough it is the answer that enough accepted.
func (c *curl) call(method, request string, enough func(string) bool) map[string]any {
	c.Helper()
	parser, format, err := grpcurl.RequestParserAndFormatter(
		grpcurl.FormatJSON, c.src, strings.NewReader(request), grpcurl.FormatOptions{})
	if err != nil {
		c.Fatal(err)
	}
	out := &bytes.Buffer{}
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	h := &grpcurl.DefaultEventHandler{Out: out, Formatter: format}
	var handler grpcurl.InvocationEventHandler = h
	if enough != nil {
		handler = &until{DefaultEventHandler: h, out: out, enough: enough, cancel: cancel}
	}
	if err := grpcurl.InvokeRPC(ctx, c.src, c.conn, method, nil, handler, parser.Next); err != nil {
		c.Fatalf("%s: %v", method, err)
	}
	if enough == nil && h.Status.Err() != nil {
		c.Fatalf("%s: %v", method, h.Status.Err())
	}
	var answer map[string]any
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		c.Fatalf("%s: %v in %q", method, err, out)
	}
	return answer
}

func TestGrpcurlWorksATaskAndReceivesATick(t *testing.T) {
	c := newCurl(t, serveConnect(t))
	services, err := grpcurl.ListServices(c.src)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pgqueue.v1.TaskService", "pgqueue.v1.WorkService", "grpc.health.v1.Health"} {
		if !strings.Contains(strings.Join(services, " "), want) {
			t.Fatalf("%s is not among %v", want, services)
		}
	}
	if got := c.call("grpc.health.v1.Health/Check", `{}`, nil)["status"]; got != "SERVING" {
		t.Fatalf("health is %v", got)
	}

	payload := base64.StdEncoding.EncodeToString([]byte(`{"n":1e400}`))
	c.call("pgqueue.v1.QueueService/CreateQueue", `{"meta":{"queue":"mail"}}`, nil)
	c.call("pgqueue.v1.TaskService/CreateTask", fmt.Sprintf(`{"task":{"queue":"mail","payload":%q}}`, payload), nil)
	held := c.call("pgqueue.v1.WorkService/RetainTasks", `{"worker":"curl","wait":"10s"}`, nil)["tasks"].([]any)[0].(map[string]any)
	if held["payload"] != payload {
		t.Fatalf("the payload became %v", held["payload"])
	}
	id, token := held["id"], held["lease"].(map[string]any)["token"]
	beat := c.call("pgqueue.v1.WorkService/HeartbeatTasks", fmt.Sprintf(`{"beats":[{"id":%q,"token":%q}]}`, id, token), nil)
	if beat["beats"].([]any)[0].(map[string]any)["error"] != nil {
		t.Fatalf("got %v", beat)
	}
	done := c.call("pgqueue.v1.WorkService/ReleaseTasks",
		fmt.Sprintf(`{"releases":[{"id":%q,"token":%q,"outcome":"OUTCOME_SUCCESS"}]}`, id, token), nil)
	if got := done["released"].([]any)[0].(map[string]any)["task"].(map[string]any)["status"]; got != "STATUS_RELEASED" {
		t.Fatalf("got %v", done)
	}

	c.call("pgqueue.v1.TickerService/CreateTicker", `{"meta":{"ticker":"t","cron":"@yearly"}}`, nil)
	ran := c.call("pgqueue.v1.TickerService/RunTicker", `{"ticker":"t"}`, nil)["tick"].(map[string]any)
	tick := c.call("pgqueue.v1.TickerService/ReceiveTicks", `{}`, func(answer string) bool {
		return strings.Contains(answer, `"tick"`)
	})["tick"].(map[string]any)
	if tick["id"] != ran["id"] || tick["ticker"] != "t" {
		t.Fatalf("received %v, ran %v", tick, ran)
	}
}
