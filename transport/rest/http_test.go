package rest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

func TestETagsGuardUpdates(t *testing.T) {
	s := newStack(t)
	for _, x := range []struct{ list, one, create, change string }{
		{"/api/queue", "/api/queue/q", `{"queue":"q"}`, `{"retries":7}`},
		{"/api/ticker", "/api/ticker/t", `{"ticker":"t","cron":"@daily"}`, `{"overlap":"skip"}`},
	} {
		created := s.do(201, "POST", x.list, x.create)
		tag := created.header.Get("ETag")
		if tag != `"1"` {
			t.Fatal("ETag", tag)
		}
		if a := s.do(304, "GET", x.one, "", "If-None-Match", tag); a.body != "" {
			t.Error(a.body)
		}
		changed := s.do(200, "PATCH", x.one, x.change, "If-Match", tag)
		if changed.header.Get("ETag") == tag {
			t.Error("the ETag stays")
		}
		s.refused(412, queue.KindPrecondition, "version", "PATCH", x.one, x.change, "If-Match", tag)
		s.refused(412, queue.KindPrecondition, "If-Match", "PATCH", x.one, x.change, "If-Match", `W/"x"`)
		s.do(200, "GET", x.one, "", "If-None-Match", tag)
		s.do(200, "PATCH", x.one, x.change, "If-Match", "*")
	}
}

func TestIdempotencyKeyHeader(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	const task = `{"queue":"q","payload":1}`
	first := s.do(201, "POST", "/api/task", task, "Idempotency-Key", "k")
	if first.header.Get("Idempotency-Replayed") != "" {
		t.Error("a new task is replayed")
	}
	again := s.do(200, "POST", "/api/task", task, "Idempotency-Key", "k")
	if why := shape(again.body, `{"id":1,"payload":1,"key":"k"}`); why != "" || again.header.Get("Idempotency-Replayed") != "true" {
		t.Error(why, again)
	}
	s.refused(422, queue.KindKeyReused, "key", "POST", "/api/task", `{"queue":"q","payload":2}`, "Idempotency-Key", "k")
	s.refused(422, queue.KindInvalid, "key", "POST", "/api/task", `{"queue":"q","key":"other"}`, "Idempotency-Key", "k")
}

func TestNamespaceOfARequest(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`, "Pgqueue-Namespace", "a")
	s.do(201, "POST", "/api/queue?namespace=b", `{"queue":"q"}`)
	for path, want := range map[string]string{"?namespace=a": `{"count":1}`, "?namespace=b": `{"count":1}`, "": `{"count":0,"body":[]}`} {
		if why := shape(s.do(200, "GET", "/api/queue"+path, "").body, want); why != "" {
			t.Error(path, why)
		}
	}
	if why := shape(s.do(200, "GET", "/api/namespace?offset=1&limit=1", "").body, `{"count":3,"body":["b"]}`); why != "" {
		t.Error(why)
	}
}

func TestPayloadsPassByteByByte(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	for _, payload := range []string{
		`{"b":1,"a":1,"b":2}`, `123456789012345678901234567890.10`, `"\u0000\u00e9\/"`, "{ \"a\" :\n [ 1 , 2 ] }", `"<&>"`, "\"\u2028\"", `1E400`,
	} {
		if a := s.do(201, "POST", "/api/task", `{"queue":"q","payload":`+payload+`}`); !strings.Contains(a.body, `"payload":`+payload+`,`) {
			t.Errorf("%s came back in %s", payload, a.body)
		}
	}
}

func TestDurationsInRequests(t *testing.T) {
	s := newStack(t)
	for in, want := range map[string]string{
		`3600000000000`: `3600000000000`, `"24h"`: `86400000000000`, `"1m30s"`: `90000000000`, `"7d"`: `604800000000000`,
		`"1w"`: `604800000000000`, `"1d12h"`: `129600000000000`, `"1.5h"`: `5400000000000`, `"250ms"`: `250000000`,
		`"3600000000000"`: `3600000000000`,
	} {
		s.do(201, "POST", "/api/queue", `{"queue":"q","ttl":`+in+`}`)
		if why := shape(s.do(200, "DELETE", "/api/queue/q", "").body, `{"ttl":`+want+`}`); why != "" {
			t.Error(in, why)
		}
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	s.do(201, "POST", "/api/task", `{"queue":"q","payload":"`+strings.Repeat("x", 10_000)+`"}`)
	if a := s.do(200, "GET", "/api/task", "", "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "gzip" || len(a.body) > 2000 {
		t.Error(a.header, len(a.body))
	}
	if a := s.do(200, "GET", "/api/task", "", "Accept-Encoding", "identity"); a.header.Get("Content-Encoding") != "" || len(a.body) < 10_000 {
		t.Error(a.header, len(a.body))
	}
	if a := s.do(200, "GET", "/api/queue", "", "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
}

func TestRequestIDsAndAccess(t *testing.T) {
	var mu sync.Mutex
	var log []restserver.Access
	s := newStack(t, func(c *restserver.Config) {
		c.Access = func(_ context.Context, a restserver.Access) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, a)
		}
	})
	if id := s.do(200, "GET", "/api/queue?namespace=a", "", "X-Request-Id", "mine").header.Get("X-Request-Id"); id != "mine" {
		t.Error(id)
	}
	id := s.do(404, "GET", "/api/queue/none", "", "X-Request-Id", "a b").header.Get("X-Request-Id")
	if id == "" || id == "a b" {
		t.Errorf("%q", id)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(log) != 2 {
		t.Fatal(log)
	}
	if a := log[0]; a.Method != http.MethodGet || a.Path != "/api/queue" || a.Route != "GET /api/queue" || a.Namespace != "a" || a.Status != 200 || a.Bytes == 0 || a.Duration <= 0 || a.RequestID != "mine" || a.Remote == "" {
		t.Errorf("%+v", a)
	}
	if a := log[1]; a.Status != 404 || a.RequestID != id {
		t.Errorf("%+v", a)
	}
}

func TestProbesAndMetrics(t *testing.T) {
	var wrong error
	s := newStack(t, func(c *restserver.Config) {
		c.Ready = func(context.Context) error { return wrong }
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `queue_tasks{namespace="demo",queue="emails",status="new"} 1`)
		})
	})
	s.do(200, "GET", "/livez", "")
	s.do(200, "GET", "/readyz", "")
	wrong = errors.New("no database")
	s.refused(503, queue.KindUnavailable, "", "GET", "/readyz", "")
	if a := s.do(200, "GET", "/api/metrics", ""); !strings.HasPrefix(a.body, "queue_tasks{") {
		t.Error(a.body)
	}
}

func TestPrefixIsConfigurable(t *testing.T) {
	for prefix, path := range map[string]string{"/v1/queue/": "/v1/queue", "/": "", "api2": "/api2"} {
		s := newStack(t, func(c *restserver.Config) { c.Prefix = prefix })
		s.do(200, "GET", path+"/queue", "")
		c := ok[*restclient.Client](t)(restclient.New(s.url + path + "/"))
		ok[queue.QueuePage](t)(c.ListQueues(t.Context(), queue.Page{}))
		c.Close()
	}
}

func TestHTTP2WithoutTLS(t *testing.T) {
	s := newStack(t)
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	s.http = &http.Client{Transport: tr}
	t.Cleanup(tr.CloseIdleConnections)
	s.do(201, "POST", "/api/queue", `{"queue":"q"}`)
	var streams []*sse
	for range 50 { // on one connection
		streams = append(streams, s.open("GET", "/api/event", ""))
	}
	s.do(201, "POST", "/api/task", `{"queue":"q"}`)
	for _, st := range streams {
		e := st.any()
		if e.name == "" {
			e = st.any()
		}
		if why := shape(e.data, `{"kind":"created","task":1}`); why != "" {
			t.Error(why)
		}
	}
	resp, err := s.http.Do(s.request("GET", "/api/queue", ""))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Error(resp.Proto)
	}
}

func TestPanicIsAProblem(t *testing.T) {
	s := serve(t, panicking{newManager(t)})
	a := s.refused(500, queue.KindInternal, "", "GET", "/api/queue", "")
	if strings.Contains(a.body, "secret") {
		t.Error(a.body)
	}
	s.do(200, "GET", "/api/namespace", "")
}

type panicking struct{ queue.Service }

func (panicking) ListQueues(context.Context, queue.Page) (queue.QueuePage, error) { panic("secret") }

func TestForeignErrorsStayInside(t *testing.T) {
	s := serve(t, leaking{newManager(t)})
	a := s.refused(500, queue.KindInternal, "", "GET", "/api/queue", "")
	if strings.Contains(a.body, "secret") {
		t.Error(a.body)
	}
}

type leaking struct{ queue.Service }

func (leaking) ListQueues(context.Context, queue.Page) (queue.QueuePage, error) {
	return queue.QueuePage{}, errors.New("password=secret")
}
