package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// answer is the part of an answer that every way into pgqueue must share; the zero value is a success.
type answer struct {
	kind  queue.Kind
	field string // or the subject of an unknown object
	rule  string // a part of the message
}

func (a answer) String() string {
	return fmt.Sprintf("%q %.80q %.300q", string(a.kind), a.field, a.rule)
}

// input is one good or bad input in the form of each way in. A way without a form of it stays empty.
type input struct {
	name   string
	want   answer
	inGo   func(ctx context.Context, svc queue.Service) error
	rest   string // method, path and body; a header stands before the method as "Name:value"
	rpc    string // service, method and JSON; each protobuf form has the same message
	stream *pb.WorkRequest
	cli    []string
	line   string // of an imported file
}

var (
	longText  = strings.Repeat("k", queue.MaxKeyBytes+1)
	longName  = "q" + strings.Repeat("u", 63)
	largeJSON = `"` + strings.Repeat("x", queue.DefaultMaxPayloadBytes) + `"`
	headers   = func() map[string]string {
		m := map[string]string{}
		for i := range queue.MaxHeaders + 1 {
			m["h"+string(rune('a'+i/26))+string(rune('a'+i%26))] = "v"
		}
		return m
	}()
)

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func headerArgs() (args []string) {
	for name, value := range headers {
		args = append(args, "--header", name+"="+value)
	}
	return args
}

// inputs must have the same kind, field and rule in the answers of all ways.
var inputs = []input{
	{
		name: "a good task",
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{Payload: []byte("{}")})
			return err
		},
		rest: `POST /task {"queue":"mail"}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"mail"}}`,
		cli:  []string{"create-task", "mail"},
		line: `{"queue":"mail"}`,
	},
	{
		name: "an unknown field",
		want: answer{queue.KindInvalid, "colour", "unknown field"},
		rest: `POST /task {"queue":"mail","colour":1}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"mail","colour":1}}`,
		line: `{"queue":"mail","colour":1}`,
	},
	{
		name: "a misspelt field",
		want: answer{queue.KindInvalid, "paylaod", "did you mean payload?"},
		rest: `POST /task {"queue":"mail","paylaod":1}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"mail","paylaod":1}}`,
		cli:  []string{"create-task", "mail", "--paylaod", "1"},
		line: `{"queue":"mail","paylaod":1}`,
	},
	{
		name: "a misspelt field of a filter",
		want: answer{queue.KindInvalid, "quue", "did you mean queue?"},
		rest: `POST /task/delete {"quue":"mail"}`,
		rpc:  `TaskService DeleteTasks {"selection":{"filter":{"quue":"mail"}}}`,
		cli:  []string{"delete-task", "--quue", "mail"},
	},
	{
		name: "a text for a number",
		want: answer{queue.KindInvalid, "priority", "must be a"},
		rest: `POST /task {"queue":"mail","priority":"high"}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"mail","priority":"high"}}`,
		cli:  []string{"create-task", "mail", "--priority", "high"},
		line: `{"queue":"mail","priority":"high"}`,
	},
	{
		name: "a payload above the limit",
		want: answer{queue.KindTooLarge, "payload", "must have at most 1048576 bytes, got 1048578"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{Payload: []byte(largeJSON)})
			return err
		},
		rest: `POST /task {"queue":"mail","payload":` + largeJSON + `}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"mail","payload":"` + base64.StdEncoding.EncodeToString([]byte(largeJSON)) + `"}}`,
		line: `{"queue":"mail","payload":` + largeJSON + `}`,
	},
	{
		name: "too many headers",
		want: answer{queue.KindInvalid, "headers", "must be at most 64"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{Headers: headers})
			return err
		},
		rest: `POST /task {"queue":"mail","headers":` + asJSON(headers) + `}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"mail","headers":` + asJSON(headers) + `}}`,
		cli:  append([]string{"create-task", "mail"}, headerArgs()...),
		line: `{"queue":"mail","headers":` + asJSON(headers) + `}`,
	},
	{
		name: "a key above the limit",
		want: answer{queue.KindInvalid, "key", "must have at most 255 bytes, got 256"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{Key: longText})
			return err
		},
		rest: `POST /task {"queue":"mail","key":"` + longText + `"}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"mail","key":"` + longText + `"}}`,
		cli:  []string{"create-task", "mail", "--key", longText},
		line: `{"queue":"mail","key":"` + longText + `"}`,
	},
	{
		name: "a bad name",
		want: answer{queue.KindInvalid, "queue", "must be a letter first"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CreateQueue(ctx, queue.QueueMeta{Name: "9x"})
			return err
		},
		rest: `POST /queue {"queue":"9x"}`,
		rpc:  `QueueService CreateQueue {"meta":{"queue":"9x"}}`,
		cli:  []string{"create-queue", "9x"},
		line: `{"queue":"9x"}`,
	},
	{
		name: "a name above the limit",
		want: answer{queue.KindInvalid, "queue", "must be a name of at most 63 characters, got 64"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CreateQueue(ctx, queue.QueueMeta{Name: longName})
			return err
		},
		rest: `POST /queue {"queue":"` + longName + `"}`,
		rpc:  `QueueService CreateQueue {"meta":{"queue":"` + longName + `"}}`,
		cli:  []string{"create-queue", longName},
	},
	{
		name: "a bad namespace",
		want: answer{queue.KindInvalid, "namespace", "must be a letter first"},
		inGo: func(_ context.Context, svc queue.Service) error {
			_, err := svc.In("9x")
			return err
		},
		rest: `GET /queue?namespace=9x`,
		rpc:  `QueueService ListQueues {"namespace":"9x"}`,
		cli:  []string{"queues", "-n", "9x"},
	},
	{
		name: "a bad duration",
		want: answer{queue.KindInvalid, "ttl", "must be a duration"},
		rest: `POST /queue {"queue":"a","ttl":"1x"}`,
		rpc:  `QueueService CreateQueue {"meta":{"queue":"a","ttl":"1x"}}`,
		cli:  []string{"create-queue", "a", "--ttl", "1x"},
	},
	{
		name: "a negative duration",
		want: answer{queue.KindInvalid, "ttl", "must "},
		inGo: func(ctx context.Context, svc queue.Service) error {
			d := -time.Second
			_, err := svc.CreateQueue(ctx, queue.QueueMeta{Name: "a", TTL: &d})
			return err
		},
		rest: `POST /queue {"queue":"a","ttl":"-1s"}`,
		rpc:  `QueueService CreateQueue {"meta":{"queue":"a","ttl":"-1s"}}`,
		cli:  []string{"create-queue", "a", "--ttl", "-1s"},
	},
	{
		name: "a negative number",
		want: answer{queue.KindInvalid, "retries", "must be a number from 0 to 1000, got -1"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			n := -1
			_, err := svc.CreateQueue(ctx, queue.QueueMeta{Name: "a", Retries: &n})
			return err
		},
		rest: `POST /queue {"queue":"a","retries":-1}`,
		rpc:  `QueueService CreateQueue {"meta":{"queue":"a","retries":"-1"}}`,
		cli:  []string{"create-queue", "a", "--retries", "-1"},
	},
	{
		name: "a page above the limit",
		want: answer{queue.KindInvalid, "limit", "must be a number from 1 to 1000, got 1001"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.ListTasks(ctx, queue.TaskQuery{Page: queue.Page{Limit: 1001}})
			return err
		},
		rest: `GET /task?limit=1001`,
		rpc:  `TaskService ListTasks {"page":{"limit":"1001"}}`,
		cli:  []string{"tasks", "--limit", "1001"},
	},
	{
		name: "a negative offset",
		want: answer{queue.KindInvalid, "offset", "must be"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.ListTasks(ctx, queue.TaskQuery{Page: queue.Page{Offset: -1}})
			return err
		},
		rest: `GET /task?offset=-1`,
		rpc:  `TaskService ListTasks {"page":{"offset":"-1"}}`,
		cli:  []string{"tasks", "--offset", "-1"},
	},
	{
		name: "a retain above the limit",
		want: answer{queue.KindInvalid, "limit", "must be a number from 1 to 10000, got 10001"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Limit: 10001})
			return err
		},
		rest:   `PUT /task?worker=w&limit=10001`,
		rpc:    `WorkService RetainTasks {"worker":"w","limit":"10001"}`,
		stream: &pb.WorkRequest{Retains: []*pb.WorkRetain{{Id: 1, Limit: 10001}}},
		cli:    []string{"retain-task", "--worker", "w", "--limit", "10001"},
	},
	{
		name: "a wait above the limit",
		want: answer{queue.KindInvalid, "wait", "must be a duration from 0 to 10m0s, got 11m0s"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.RetainTasks(ctx, queue.RetainRequest{Worker: "w", Limit: 1, Wait: 11 * time.Minute})
			return err
		},
		rest:   `PUT /task?worker=w&wait=11m`,
		rpc:    `WorkService RetainTasks {"worker":"w","limit":"1","wait":"660s"}`,
		stream: &pb.WorkRequest{Retains: []*pb.WorkRetain{{Id: 1, Limit: 1, Wait: durationpb.New(11 * time.Minute)}}},
		cli:    []string{"retain-task", "--worker", "w", "--wait", "11m"},
	},
	{
		name: "a worker above the limit",
		want: answer{queue.KindInvalid, "worker", "must be a name of at most 255 bytes, got 256"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.RetainTasks(ctx, queue.RetainRequest{Worker: longText, Limit: 1})
			return err
		},
		rest:   `PUT /task?worker=` + longText,
		rpc:    `WorkService RetainTasks {"worker":"` + longText + `","limit":"1"}`,
		stream: &pb.WorkRequest{Retains: []*pb.WorkRetain{{Id: 1, Limit: 1, Worker: longText}}},
		cli:    []string{"retain-task", "--worker", longText},
	},
	{
		name: "an empty filter of a deletion",
		want: answer{queue.KindInvalid, "", "must be ids or a filter"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.DeleteTasks(ctx, queue.Selection{})
			return err
		},
		rest: `POST /task/delete {}`,
		rpc:  `TaskService DeleteTasks {"selection":{}}`,
		cli:  []string{"delete-task"},
	},
	{
		name: "a filter of a deletion without any condition",
		want: answer{queue.KindInvalid, "", "must be ids or a filter"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.DeleteTasks(ctx, queue.Selection{Filter: &queue.TaskFilter{}})
			return err
		},
		rest: `POST /task/delete {"queue":null,"status":null}`,
		rpc:  `TaskService DeleteTasks {"selection":{"filter":{}}}`,
	},
	{
		name: "the zero time in the filter of a deletion",
		want: answer{queue.KindInvalid, "created_before", "must be a time"},
		rest: `POST /task/delete {"queue":"mail","created_before":"0001-01-01T00:00:00Z"}`,
		rpc:  `TaskService DeleteTasks {"selection":{"filter":{"queue":"mail","created_before":"0001-01-01T00:00:00Z"}}}`,
		cli:  []string{"delete-task", "--queue", "mail", "--created-before", "0001-01-01T00:00:00Z"},
	},
	{
		name: "the zero time in the filter of a list",
		want: answer{queue.KindInvalid, "created_after", "must be a time"},
		rest: `GET /task?created_after=0001-01-01T00:00:00Z`,
		rpc:  `TaskService ListTasks {"filter":{"created_after":"0001-01-01T00:00:00Z"}}`,
		cli:  []string{"tasks", "--created-after", "0001-01-01T00:00:00Z"},
	},
	{
		name: "ids and a filter together",
		want: answer{queue.KindInvalid, "", "got both"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.DeleteTasks(ctx, queue.Selection{IDs: []int64{1}, Filter: &queue.TaskFilter{Queue: "mail"}})
			return err
		},
		rest: `POST /task/delete {"ids":[1],"queue":"mail"}`,
		rpc:  `TaskService DeleteTasks {"selection":{"ids":["1"],"filter":{"queue":"mail"}}}`,
		cli:  []string{"delete-task", "1", "--queue", "mail"},
	},
	{
		name: "repeated ids in a batch",
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CancelTasks(ctx, queue.Selection{IDs: []int64{1, 1}, DryRun: true})
			return err
		},
		rest: `POST /task/cancel {"ids":[1,1],"dry_run":true}`,
		rpc:  `TaskService CancelTasks {"selection":{"ids":["1","1"],"dryRun":true}}`,
		cli:  []string{"cancel-task", "1", "1", "--dry-run"},
	},
	{
		name: "an id of 0",
		want: answer{queue.KindInvalid, "id", "must be"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.GetTask(ctx, 0)
			return err
		},
		rest: `GET /task/0`,
		rpc:  `TaskService GetTask {"id":"0"}`,
		cli:  []string{"task", "0"},
	},
	{
		name: "an unknown query parameter or option",
		want: answer{queue.KindInvalid, "statsu", "did you mean"},
		rest: `GET /task?statsu=new`,
		rpc:  `TaskService ListTasks {"filter":{"statsu":["STATUS_NEW"]}}`,
		cli:  []string{"tasks", "--statsu", "new"},
	},
	{
		name: "an unknown status",
		want: answer{queue.KindInvalid, "status", "must be"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.ListTasks(ctx, queue.TaskQuery{TaskFilter: queue.TaskFilter{Statuses: []queue.Status{"lost"}}})
			return err
		},
		rest: `GET /task?status=lost`,
		rpc:  `TaskService ListTasks {"filter":{"status":["STATUS_LOST"]}}`,
		cli:  []string{"tasks", "--status", "lost"},
	},
	{
		name: "an unknown queue",
		want: answer{queue.KindNotFound, "queue nix", "no such queue"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.CreateTask(ctx, "nix", queue.TaskMeta{})
			return err
		},
		rest: `POST /task {"queue":"nix"}`,
		rpc:  `TaskService CreateTask {"task":{"queue":"nix"}}`,
		cli:  []string{"create-task", "nix"},
		line: `{"queue":"nix"}`,
	},
	{
		name: "a bad cursor",
		want: answer{queue.KindInvalid, "cursor", "must be"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.ListTasks(ctx, queue.TaskQuery{Page: queue.Page{Cursor: "!"}})
			return err
		},
		rest: `GET /task?cursor=!`,
		rpc:  `TaskService ListTasks {"page":{"cursor":"!"}}`,
	},
	{
		name: "a bad cursor of a bulk operation",
		want: answer{queue.KindInvalid, "cursor", "must be"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.DeleteTasks(ctx, queue.Selection{Filter: &queue.TaskFilter{Queue: "mail"}, Cursor: "!"})
			return err
		},
		rest: `POST /task/delete {"queue":"mail","cursor":"!"}`,
		rpc:  `TaskService DeleteTasks {"selection":{"filter":{"queue":"mail"},"cursor":"!"}}`,
	},
	{
		name: "an outdated version",
		want: answer{queue.KindPrecondition, "queue mail", "has version 1 by now, not 99; read it again"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.UpdateQueue(ctx, "mail", queue.QueueMeta{IfVersion: 99})
			return err
		},
		rest: `If-Match:"99" PATCH /queue/mail {"retries":1}`,
		rpc:  `QueueService UpdateQueue {"queue":"mail","meta":{"ifVersion":"99"}}`,
		cli:  []string{"update-queue", "mail", "--retries", "1", "--if-version", "99"},
	},
	{
		name: "the deletion of a queue that must be empty",
		want: answer{queue.KindConflict, "queue full", "must have no unfinished tasks, got 1"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.DeleteQueue(ctx, "full", queue.IfEmpty(true))
			return err
		},
		rest: `DELETE /queue/full?if_empty=true`,
		rpc:  `QueueService DeleteQueue {"queue":"full","ifEmpty":true}`,
		cli:  []string{"delete-queue", "full", "--if-empty"},
	},
	{
		name: "a version below 0",
		want: answer{queue.KindPrecondition, "queue mail", "has version 1 by now, not -1; read it again"},
		inGo: func(ctx context.Context, svc queue.Service) error {
			_, err := svc.UpdateQueue(ctx, "mail", queue.QueueMeta{IfVersion: -1})
			return err
		},
		rest: `If-Match:"-1" PATCH /queue/mail {"retries":1}`,
		rpc:  `QueueService UpdateQueue {"queue":"mail","meta":{"ifVersion":"-1"}}`,
		cli:  []string{"update-queue", "mail", "--retries", "1", "--if-version", "-1"},
	},
}

// TestWaysAnswerAlike sends each input over every way in: Go, REST, Connect in JSON and protobuf, gRPC, the worker's
// stream, commands and imported files.
func TestWaysAnswerAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs")
	}
	t.Parallel()

	inGo, err := manager.New(memory.New())
	if err != nil {
		t.Fatal(err)
	}
	url := serveMemory(t)
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if got := overREST(t, url, `POST /queue {"queue":"mail"}`); got != (answer{}) {
		t.Fatal(got)
	}
	if _, err := inGo.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}

	for _, request := range []string{`POST /queue {"queue":"full"}`, `POST /task {"queue":"full","payload":1}`} {
		if got := overREST(t, url, request); got != (answer{}) {
			t.Fatal(got)
		}
	}
	if _, err := inGo.CreateQueue(t.Context(), queue.QueueMeta{Name: "full"}); err != nil {
		t.Fatal(err)
	}
	if _, err := inGo.CreateTask(t.Context(), "full", queue.TaskMeta{}); err != nil {
		t.Fatal(err)
	}

	for _, in := range inputs {
		t.Run(in.name, func(t *testing.T) {
			t.Parallel()
			answers := map[string]answer{}
			if in.inGo != nil {
				answers["Go"] = answerOf(in.inGo(t.Context(), inGo))
			}
			if in.rest != "" {
				answers["REST"] = overREST(t, url, in.rest)
			}
			if in.rpc != "" {
				service, rest, _ := strings.Cut(in.rpc, " ")
				method, body, _ := strings.Cut(rest, " ")
				path := "/pgqueue.v1." + service + "/" + method
				answers["Connect with JSON"] = overConnect(t, url+path, "application/json", []byte(body))
				if message := asMessage(t, service, method, body); message != nil {
					b, err := proto.Marshal(message)
					if err != nil {
						t.Fatal(err)
					}
					answers["Connect with protobuf"] = overConnect(t, url+path, "application/proto", b)
					answers["gRPC"] = overGRPC(t, conn, path, message)
				}
			}
			if in.stream != nil {
				answers["worker stream"] = overStream(t, conn, in.stream)
			}
			if in.cli != nil {
				answers["command"] = overCommand(t, url, in.cli)
			}
			if in.line != "" {
				file := filepath.Join(t.TempDir(), "tasks.ndjson")
				if err := os.WriteFile(file, []byte(in.line+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				answers["import"] = overCommand(t, url, []string{"import", file, "--label", t.Name()})
			}

			for way, got := range answers {
				isSame := got.kind == in.want.kind && strings.Contains(plainField(got.field), plainField(in.want.field)) && strings.Contains(got.rule, in.want.rule)
				if way == "command" || way == "import" {
					isSame = commandAgrees(got, in.want)
				}
				if !isSame {
					t.Errorf("%s: %s, want %s", way, got, in.want)
				}
			}
		})
	}
}

// plainField returns the name of a field without the forms of the ways: --retry-delay, retry_delay, retryDelay.
func plainField(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s))
}

// commandAgrees compares the exit code, which is in got.kind as text, and the line on standard error.
func commandAgrees(got, want answer) bool {
	code := program.ExitDone
	if want.kind != "" {
		code = program.ExitCode(&queue.Error{Kind: want.kind})
	}
	return string(got.kind) == strconv.Itoa(code) && strings.Contains(plainField(got.rule), plainField(want.field)) && strings.Contains(plainField(got.rule), plainField(want.rule))
}

func answerOf(err error) answer {
	if e, ok := errors.AsType[*queue.Error](err); ok {
		return answer{e.Kind, e.Field + e.Subject, e.Msg}
	}
	return answer{kind: queue.KindOf(err)}
}

func answerOfDetail(d *pb.ErrorDetail) answer {
	kind := queue.Kind(strings.ToLower(strings.TrimPrefix(d.GetKind().String(), "KIND_")))
	return answer{kind, d.GetField() + d.GetSubject(), d.GetMessage()}
}

func overREST(t *testing.T, url, request string) answer {
	t.Helper()
	header, value := "", ""
	if first, rest, _ := strings.Cut(request, " "); strings.Contains(first, ":") {
		header, value, _ = strings.Cut(first, ":")
		request = rest
	}
	method, rest, _ := strings.Cut(request, " ")
	path, body, _ := strings.Cut(rest, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, url+"/api"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != "" {
		req.Header.Set(header, value)
	}
	req.Header.Set("Content-Type", "application/json")

	var problem struct {
		Code, Detail, Field, Subject string
	}
	if code := callJSON(t, req, &problem); code < 400 {
		return answer{}
	}
	return answer{queue.Kind(problem.Code), problem.Field + problem.Subject, problem.Detail}
}

// callJSON decodes the body of an error answer into out and returns the status.
func callJSON(t *testing.T, req *http.Request, out any) int {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= 400 {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return res.StatusCode
}

func overConnect(t *testing.T, url, contentType string, body []byte) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Connect-Protocol-Version", "1")

	var failed struct {
		Code, Message string
		Details       []struct{ Value string }
	}
	if code := callJSON(t, req, &failed); code < 400 {
		return answer{}
	}
	if len(failed.Details) == 0 {
		return answer{kind: queue.Kind("without a detail: " + failed.Code), rule: failed.Message}
	}
	b, err := base64.RawStdEncoding.DecodeString(failed.Details[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	detail := new(pb.ErrorDetail)
	if err := proto.Unmarshal(b, detail); err != nil {
		t.Fatal(err)
	}
	return answerOfDetail(detail)
}

// asMessage returns the request that the JSON describes, or nil when no message can have that content.
func asMessage(t *testing.T, service, method, body string) proto.Message {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("pgqueue.v1." + service))
	if err != nil {
		t.Fatal(err)
	}
	in := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method)).Input().FullName()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(in)
	if err != nil {
		t.Fatal(err)
	}
	message := kind.New().Interface()
	if protojson.Unmarshal([]byte(body), message) != nil {
		return nil
	}
	return message
}

func overGRPC(t *testing.T, conn *grpc.ClientConn, path string, message proto.Message) answer {
	t.Helper()
	return answerOfStatus(conn.Invoke(t.Context(), path, message, new(pb.Task)))
}

// answerOfStatus returns the answer of a gRPC call. A success may have any message.
func answerOfStatus(err error) answer {
	s := status.Convert(err)
	for _, detail := range s.Details() {
		if d, ok := detail.(*pb.ErrorDetail); ok {
			return answerOfDetail(d)
		}
	}
	if err == nil || strings.Contains(s.Message(), "unmarshal") {
		return answer{}
	}
	return answer{kind: queue.Kind("without a detail: " + s.Code().String()), rule: s.Message()}
}

// overStream sends a message over a worker's stream and returns the first answer after the welcome.
func overStream(t *testing.T, conn *grpc.ClientConn, message *pb.WorkRequest) answer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/pgqueue.v1.WorkService/Work")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*pb.WorkRequest{{Hello: &pb.WorkHello{Worker: "w", Queue: []string{"mail"}}}, message} {
		if err := stream.SendMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for {
		response := new(pb.WorkResponse)
		if err := stream.RecvMsg(response); err != nil {
			return answerOfStatus(err)
		}
		for _, r := range response.GetRetained() {
			return answerOfDetail(r.GetError())
		}
	}
}

func overCommand(t *testing.T, url string, args []string) answer {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs(t), "pgqueue"), append(args, "--url", url+"/api")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run() // the state below has the result
	return answer{kind: queue.Kind(strconv.Itoa(cmd.ProcessState.ExitCode())), rule: stderr.String()}
}
