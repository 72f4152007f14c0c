package rest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func TestBadInputIsRefusedWithTheFieldNamed(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	s.do(200, "PUT", "/api/task/q?worker=w", ``)
	s.do(201, "POST", "/api/ticker", `{"ticker":"t","period":"1h"}`)
	const invalid = queue.KindInvalid
	for _, x := range []struct {
		name, method, path, body string
		status                   int
		code                     queue.Kind
		field                    string
	}{
		{"no body", "POST", "/queue", ``, 422, invalid, "body"},
		{"null", "POST", "/queue", `null`, 422, invalid, "queue"},
		{"no JSON", "POST", "/queue", `{"queue":`, 422, invalid, "body"},
		{"two values", "POST", "/queue", `{"queue":"a"} {}`, 422, invalid, "body"},
		{"garbage behind", "POST", "/task", `{"queue":"q"}x`, 422, invalid, "body"},
		{"an array", "POST", "/queue", `[]`, 422, invalid, "body"},
		{"an unknown field", "POST", "/queue", `{"queue":"a","colour":1}`, 422, invalid, "colour"},
		{"an unknown field in PATCH", "PATCH", "/queue/q", `{"retrys":1}`, 422, invalid, "retrys"},
		{"text for a number", "POST", "/queue", `{"queue":"a","retries":"3"}`, 422, invalid, "retries"},
		{"a fraction for a number", "POST", "/queue", `{"queue":"a","retries":1.5}`, 422, invalid, "retries"},
		{"a number that overflows", "POST", "/queue", `{"queue":"a","retries":99999999999999999999}`, 422, invalid, "retries"},
		{"too many retries", "POST", "/queue", `{"queue":"a","retries":1001}`, 422, invalid, "retries"},
		{"a negative duration", "POST", "/queue", `{"queue":"a","ttl":-1}`, 422, invalid, "ttl"},
		{"a negative text", "POST", "/queue", `{"queue":"a","ttl":"-5s"}`, 422, invalid, "ttl"},
		{"a duration that overflows", "POST", "/queue", `{"queue":"a","lease":9223372036854775808}`, 422, invalid, "lease"},
		{"a text that overflows", "POST", "/queue", `{"queue":"a","retention":"999999999w"}`, 422, invalid, "retention"},
		{"a duration past the limit", "POST", "/queue", `{"queue":"a","retry_delay":"3653d"}`, 422, invalid, "retry_delay"},
		{"a duration that is none", "POST", "/queue", `{"queue":"a","retry_delay":"soon"}`, 422, invalid, "retry_delay"},
		{"an empty duration", "POST", "/queue", `{"queue":"a","retry_delay":""}`, 422, invalid, "retry_delay"},
		{"true for a duration", "POST", "/queue", `{"queue":"a","retry_delay":true}`, 422, invalid, "retry_delay"},
		{"a fraction for a duration", "POST", "/queue", `{"queue":"a","retry_delay":1.5}`, 422, invalid, "retry_delay"},
		{"a bad name", "POST", "/queue", `{"queue":"ä"}`, 422, invalid, "queue"},
		{"an unknown backoff", "POST", "/queue", `{"queue":"a","backoff":"cubic"}`, 422, invalid, "backoff"},
		{"another name", "PATCH", "/queue/q", `{"queue":"r"}`, 422, invalid, "queue"},
		{"a queue that is there", "POST", "/queue", `{"queue":"q"}`, 409, queue.KindAlreadyExists, ""},
		{"a queue that is not there", "GET", "/queue/none", ``, 404, queue.KindNotFound, ""},
		{"a bad namespace", "GET", "/queue?namespace=1a", ``, 422, invalid, "namespace"},
		{"the system's namespace", "GET", "/queue?namespace=pgqueue", ``, 422, invalid, "namespace"},

		{"an unknown queue", "POST", "/task", `{"queue":"none"}`, 404, queue.KindNotFound, ""},
		{"invalid UTF-8", "POST", "/task", "{\"queue\":\"q\",\"payload\":\"\xff\"}", 422, invalid, "body"},
		{"a lone surrogate", "POST", "/task", `{"queue":"q","payload":"\ud800"}`, 422, invalid, "body"},
		{"a lone surrogate in a key", "POST", "/task", `{"queue":"q","key":"\udc00\ud800"}`, 422, invalid, "body"},
		{"129 levels", "POST", "/task", `{"queue":"q","payload":` + nested(129) + `}`, 422, invalid, "payload"},
		{"a million levels", "POST", "/task", `{"queue":"q","payload":` + strings.Repeat("[", 1_000_000) + `}`, 422, invalid, "body"},
		{"a payload past the limit", "POST", "/task", `{"queue":"q","payload":"` + strings.Repeat("x", queue.DefaultMaxPayloadBytes) + `"}`, 413, queue.KindTooLarge, "payload"},
		{"2 MB", "POST", "/task", `{"queue":"q","payload":"` + strings.Repeat("x", 2<<20) + `"}`, 413, queue.KindTooLarge, "body"},
		{"a priority past int16", "POST", "/task", `{"queue":"q","priority":32768}`, 422, invalid, "priority"},
		{"a time that is none", "POST", "/task", `{"queue":"q","delayed_at":"tomorrow"}`, 422, invalid, "delayed_at"},
		{"a delay and a time", "POST", "/task", `{"queue":"q","delayed_at":"2030-01-01T00:00:00Z","delay":"1h"}`, 422, invalid, "delay"},
		{"headers that are not texts", "POST", "/task", `{"queue":"q","headers":{"a":1}}`, 422, invalid, "headers"},
		{"a long key", "POST", "/task", `{"queue":"q","key":"` + strings.Repeat("k", 256) + `"}`, 422, invalid, "key"},
		{"a bad task in a batch", "POST", "/task/batch", `[{"queue":"q"},{"queue":"q","delay":"x"}]`, 422, invalid, "tasks[1].delay"},
		{"an unknown field in a batch", "POST", "/task/batch", `[{"queue":"q"},{"queue":"q","x":0}]`, 422, invalid, "tasks[1].x"},
		{"an unknown queue in a batch", "POST", "/task/batch", `[{"queue":"q"},{"queue":"none"}]`, 404, queue.KindNotFound, "tasks[1]"},
		{"an object for a batch", "POST", "/task/batch", `{"queue":"q"}`, 422, invalid, "body"},
		{"a batch past the limit", "POST", "/task/batch", `[` + strings.Repeat(`{},`, queue.MaxBatch) + `{}]`, 422, invalid, "tasks"},

		{"no worker", "PUT", "/task", ``, 422, invalid, "worker"},
		{"none available", "PUT", "/task/q?worker=w", ``, 404, queue.KindNotFound, ""},
		{"a huge limit", "PUT", "/task?worker=w&limit=10001", ``, 422, invalid, "limit"},
		{"a limit that overflows", "PUT", "/task?worker=w&limit=99999999999999999999", ``, 422, invalid, "limit"},
		{"a limit of 0", "PUT", "/task?worker=w&limit=0", ``, 422, invalid, "limit"},
		{"a wait past the limit", "PUT", "/task?worker=w&wait=11m", ``, 422, invalid, "wait"},
		{"a wait that is none", "PUT", "/task?worker=w&wait=x", ``, 422, invalid, "wait"},
		{"a short lease", "PUT", "/task?worker=w&lease=1ms", ``, 422, invalid, "lease"},
		{"a malformed query", "PUT", "/task?worker=%zz", ``, 422, invalid, "query"},

		{"an id that is none", "GET", "/task/x", ``, 422, invalid, "id"},
		{"an id of 0", "GET", "/task/0", ``, 422, invalid, "id"},
		{"an id that overflows", "GET", "/task/9223372036854775808", ``, 422, invalid, "id"},
		{"a task that is not there", "GET", "/task/999", ``, 404, queue.KindNotFound, ""},
		{"a stale token", "PATCH", "/task/1", `{"token":999999}`, 409, queue.KindLeaseLost, ""},
		{"a token of 0", "PATCH", "/task/1", `{"token":0}`, 422, invalid, "token"},
		{"permanent without fail", "PATCH", "/task/1", `{"permanent":true}`, 422, invalid, "permanent"},
		{"retry_in of a success", "PATCH", "/task/1", `{"retry_in":"1s"}`, 422, invalid, "retry_in"},
		{"another id", "PATCH", "/task/1", `{"id":2}`, 422, invalid, "id"},
		{"no body to a release", "PATCH", "/task/1", ``, 422, invalid, "body"},
		{"a heartbeat without a token", "POST", "/task/1/heartbeat", `{}`, 422, invalid, "token"},
		{"a snooze without a delay", "POST", "/task/1/snooze", `{}`, 422, invalid, "delay"},
		{"a snooze with a bad delay", "POST", "/task/1/snooze", `{"delay":"-1s"}`, 422, invalid, "delay"},
		{"a retry of a held task", "POST", "/task/1/retry", ``, 409, queue.KindConflict, ""},
		{"a delete of a held task", "DELETE", "/task/1", ``, 409, queue.KindConflict, ""},

		{"a huge page", "GET", "/task?limit=1001", ``, 422, invalid, "limit"},
		{"a page of 0", "GET", "/queue?limit=0", ``, 422, invalid, "limit"},
		{"a negative offset", "GET", "/task?offset=-1", ``, 422, invalid, "offset"},
		{"a bad cursor", "GET", "/task?cursor=%00x", ``, 422, invalid, "cursor"},
		{"a cursor and an offset", "GET", "/task?cursor=5&offset=1", ``, 422, invalid, "cursor"},
		{"an unknown status", "GET", "/task?status=done", ``, 422, invalid, "status"},
		{"a bad time", "GET", "/task?created_after=1", ``, 422, invalid, "created_after"},
		{"nothing selected", "POST", "/task/delete", `{}`, 422, invalid, "ids"},
		{"a selection with a bad time", "POST", "/task/retry", `{"created_after":"x"}`, 422, invalid, "created_after"},
		{"ids and a filter", "POST", "/task/cancel", `{"ids":[1],"queue":"q"}`, 422, invalid, "ids"},

		{"a ticker without a schedule", "POST", "/ticker", `{"ticker":"u"}`, 422, invalid, "period"},
		{"a reserved name", "POST", "/ticker", `{"ticker":"next","period":"1h"}`, 422, invalid, "ticker"},
		{"a bad cron", "POST", "/ticker", `{"ticker":"u","cron":"* *"}`, 422, invalid, "cron"},
		{"period and interval that differ", "POST", "/ticker", `{"ticker":"u","period":"1h","interval":"2h"}`, 422, invalid, "interval"},
		{"a bad time zone", "POST", "/ticker", `{"ticker":"u","cron":"@daily","timezone":"Mars/Olympus"}`, 422, invalid, "timezone"},
		{"a large preview", "GET", "/ticker/t/preview?n=1001", ``, 422, invalid, "n"},
		{"a preview of 0", "GET", "/ticker/t/preview?n=0", ``, 422, invalid, "n"},
		{"a tick of no stream", "POST", "/ticker/ack", `{"stream":"x","id":1}`, 404, queue.KindNotFound, "stream"},

		{"an unknown kind of event", "GET", "/event?kind=born", ``, 422, invalid, "kind"},
		{"a bad event cursor", "GET", "/event?cursor=nonsense", ``, 422, invalid, "cursor"},
		{"a bad task of events", "GET", "/event?task=-1", ``, 422, invalid, "task"},

		{"no such route", "GET", "/tasks", ``, 404, queue.KindNotFound, ""},
		{"no such method", "DELETE", "/task", ``, 405, invalid, "method"},
		{"no such method on a name", "PUT", "/queue/q", `{}`, 405, invalid, "method"},
		{"no metrics", "GET", "/metrics", ``, 404, queue.KindNotFound, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			(&stack{T: t, url: s.url, http: s.http}).refused(x.status, x.code, x.field, x.method, "/api"+x.path, x.body)
		})
	}
	t.Run("the subject of a missing route", func(t *testing.T) {
		answer := s.do(404, "GET", "/api/tasks", "")
		if !strings.Contains(answer.body, `"subject":"`+restapi.SubjectRoute+`"`) {
			t.Errorf("got %+v; clients know a missing route by its subject", answer)
		}
	})
	t.Run("another content type", func(t *testing.T) {
		s := &stack{T: t, url: s.url, http: s.http}
		for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ";;"} {
			s.refused(415, invalid, "Content-Type", "POST", "/api/task", `{"queue":"q"}`, "Content-Type", ct)
		}
		s.refused(415, invalid, "Content-Type", "POST", "/api/task", `{"queue":"q"}`, "Content-Type", "application/x-ndjson")
		for _, encoding := range []string{"gzip", "br"} {
			s.refused(415, invalid, "Content-Encoding", "POST", "/api/task", `{"queue":"q"}`, "Content-Encoding", encoding)
		}
		s.do(201, "POST", "/api/queue", `{"queue":"plain"}`, "Content-Encoding", "identity")
		s.do(201, "POST", "/api/task", `{"queue":"q"}`, "Content-Type", "application/json; charset=UTF-8")
	})
	t.Run("405 says what is allowed", func(t *testing.T) {
		s := &stack{T: t, url: s.url, http: s.http}
		if a := s.do(405, "DELETE", "/api/task", ""); a.header.Get("Allow") != "GET, POST, PUT, PATCH, HEAD" {
			t.Error(a.header)
		}
	})
}

// dial sends raw bytes.
func (s *stack) dial(raw string) net.Conn {
	s.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, raw); err != nil {
		s.Fatal(err)
	}
	return c
}

func TestClientThatHangsInItsBodyIsCut(t *testing.T) {
	s := newStack(t, func(c *restserver.Config) { c.Timeouts.Body = 50 * time.Millisecond })
	c := s.dial("POST /api/queue HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Error(resp.Status)
	}
	if _, err := c.Read(make([]byte, 1<<10)); err == nil { // the problem's body
		_, err = c.Read(make([]byte, 1))
		if !errors.Is(err, io.EOF) {
			t.Error("the connection stays:", err)
		}
	}
}

func TestClientThatHangsInItsHeaderIsCut(t *testing.T) {
	s := newStack(t, func(c *restserver.Config) { c.Timeouts.Header = 50 * time.Millisecond })
	c := s.dial("GET /api/queue HTTP/1.1\r\nHos")
	if b, err := io.ReadAll(c); err != nil || strings.Contains(string(b), "200") {
		t.Errorf("%q %v", b, err)
	}
}

func TestClientThatGoesAwayInItsBodyLeavesNothing(t *testing.T) {
	s := newStack(t)
	for range 20 {
		s.dial("POST /api/queue HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"queue\":").Close()
	}
	s.do(200, "GET", "/api/queue", "")
}

func TestBatchTakesArraysAndLines(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	a := s.do(201, "POST", "/api/task/batch", `[{"queue":"q","payload":1},{"queue":"q","payload":2,"key":"k"}]`)
	if why := shape(a.body, `{"count":2,"body":[{"id":1,"payload":1},{"id":2,"payload":2}]}`); why != "" {
		t.Error(why)
	}
	a = s.do(201, "POST", "/api/task/batch", "{\"queue\":\"q\",\"payload\":3}\n\n{\"queue\":\"q\",\"payload\":2,\"key\":\"k\"}\r\n", "Content-Type", "application/x-ndjson")
	if why := shape(a.body, `{"count":2,"body":[{"payload":3},{"id":2,"payload":2,"replayed":true}]}`); why != "" {
		t.Error(why)
	}
	s.refused(422, queue.KindInvalid, "tasks[1].body", "POST", "/api/task/batch", "{\"queue\":\"q\"}\n{\"queue\":", "Content-Type", "application/x-ndjson")
	s.refused(422, queue.KindKeyReused, "tasks[1].key", "POST", "/api/task/batch", `[{"queue":"q"},{"queue":"q","key":"k","payload":9}]`)
	if a := s.do(200, "GET", "/api/task?limit=1", ""); !strings.HasPrefix(a.body, `{"count":3,`) {
		t.Error("a refused batch left tasks:", a.body)
	}
}

func TestLargestBatchFits(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q","events":false}`)
	var b strings.Builder
	for i := range queue.MaxBatch {
		fmt.Fprintf(&b, "{\"queue\":\"q\",\"payload\":%d}\n", i)
	}
	if a := s.do(201, "POST", "/api/task/batch", b.String(), "Content-Type", "application/x-ndjson"); !strings.HasPrefix(a.body, `{"count":10000,`) {
		t.Error(cut(a.body))
	}
}
