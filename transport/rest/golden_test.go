package rest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// captured is an exchange with the predecessor, as contract section 7 shows it. In a reply a time is "T"; the fields that
// are shown are there, in this order, with these values. Fields may stand behind or between them.
var captured = []struct {
	method, path, body string
	header             []string
	status             int
	reply              string
}{
	{
		"POST", "/queue", `{"queue":"emails","ttl":3600000000000,"retries":3,"retry_delay":60000000000}`, nil, 201,
		`{"queue":"emails","ttl":3600000000000,"retries":3,"retry_delay":60000000000,"namespace":"demo"}`,
	},
	{
		"POST", "/queue", `{"queue":"bare","ttl":null,"retries":null,"retry_delay":null}`, nil, 201,
		`{"queue":"bare","retries":3,"retry_delay":120000000000,"namespace":"demo"}`,
	},
	{
		"PATCH", "/queue/bare", `{"queue":"","ttl":3600000000000,"retries":null,"retry_delay":null}`, nil, 200,
		`{"queue":"bare","ttl":3600000000000,"retries":3,"retry_delay":120000000000,"namespace":"demo"}`,
	},
	{
		"DELETE", "/queue/bare", ``, nil, 200, `{"queue":"bare","ttl":3600000000000,"retries":3,"retry_delay":120000000000,"namespace":"demo"}`,
	},
	{
		"POST", "/task", `{"queue":"emails","payload":{"to":"a@b.c"}}`, nil, 201,
		`{"id":1,"payload":{"to":"a@b.c"},"namespace":"demo","queue":"emails","created_at":"T","dies_at":"T","retries":3}`,
	},
	{
		"GET", "/task", ``, nil, 200, `{"count":1,"body":[{"id":1,"payload":{"to":"a@b.c"},"status":"new"}]}`,
	},
	{
		"PUT", "/task/emails?worker=w1", ``, nil, 200,
		`{"id":1,"payload":{"to":"a@b.c"},"worker":"w1","namespace":"demo","queue":"emails","created_at":"T","started_at":"T","dies_at":"T","retries":3}`,
	},
	{
		"PATCH", "/task/1", `{"fail":false}`, nil, 200, `{"id":1,"finished_at":"T","retries":3,"status":"released"}`,
	},
	{
		"POST", "/task", `{"queue":"emails","payload":null,"delayed_at":null}`, nil, 201, `{"id":2,"payload":{},"retries":3}`,
	},
	{
		"PUT", "/task?worker=w1", ``, nil, 200, `{"id":2,"worker":"w1","queue":"emails","retries":3}`,
	},
	{
		"PATCH", "/task/2", `{"fail":true,"result":{"msg":"failed"}}`, nil, 200,
		`{"id":2,"delayed_at":"T","retries":2,"result":{"msg":"failed"},"status":"retry"}`,
	},
	{
		"GET", "/queue", ``, nil, 200, `{"count":1,"body":[{"queue":"emails","namespace":"demo"}]}`,
	},
	{
		"GET", "/namespace", ``, nil, 200, `{"count":2,"body":["demo","pgqueue"]}`,
	},
	{
		"POST", "/ticker", `{"ticker":"hourly","interval":3600000000000,"payload":null}`, nil, 201,
		`{"ticker":"hourly","interval":3600000000000,"payload":{},"namespace":"demo"}`,
	},
	{
		"PATCH", "/ticker/hourly", `{"ticker":"","interval":7200000000000,"payload":null}`, nil, 200,
		`{"ticker":"hourly","interval":7200000000000,"payload":{},"namespace":"demo"}`,
	},
	{
		"POST", "/ticker/hourly/run", ``, nil, 200, `{"ticker":"hourly","interval":7200000000000,"payload":{},"namespace":"demo","timestamp":"T"}`,
	},
	{
		"GET", "/ticker", ``, nil, 200,
		`{"count":1,"body":[{"ticker":"hourly","interval":7200000000000,"payload":{},"namespace":"demo"}]}`,
	},
}

func TestPredecessorsBodies(t *testing.T) {
	s := newStack(t)
	for _, x := range captured {
		t.Run(x.method+" "+x.path+" "+x.body, func(t *testing.T) {
			s := &stack{T: t, url: s.url, http: s.http}
			a := s.do(x.status, x.method, "/api"+x.path, x.body, append([]string{"Pgqueue-Namespace", "demo"}, x.header...)...)
			if why := shape(a.body, x.reply); why != "" {
				t.Errorf("%s\nthe answer %s\nis not    %s", why, a.body, x.reply)
			}
		})
	}
}

var someTime = regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"$`)

// shape says why got has not the shape of want; "" when it has.
func shape(got, want string) string {
	g, w := members(got), members(want)
	if g == nil || w == nil {
		if want == `"T"` && someTime.MatchString(got) || got == want {
			return ""
		}
		return got + " is not " + want
	}
	if strings.HasPrefix(want, "[") && len(g) != len(w) {
		return got + " has not as many items as " + want
	}
	at := 0
	for _, m := range w {
		found := false
		for ; at < len(g) && !found; at++ {
			if found = g[at].key == m.key; found {
				if why := shape(g[at].value, m.value); why != "" {
					return m.key + ": " + why
				}
			}
		}
		if !found {
			return m.key + " is missing, or not in its place"
		}
	}
	return ""
}

type member struct{ key, value string }

// members splits an object or array, in order; nil when text is neither.
func members(text string) (out []member) {
	dec := json.NewDecoder(strings.NewReader(text))
	open, err := dec.Token()
	if d, isDelim := open.(json.Delim); err != nil || !isDelim {
		return nil
	} else if d == '[' {
		for i := 0; dec.More(); i++ {
			var v json.RawMessage
			if dec.Decode(&v) != nil {
				return nil
			}
			out = append(out, member{"item", string(v)})
		}
		return append(out, member{"end", ""})
	}
	for dec.More() {
		k, err := dec.Token()
		var v json.RawMessage
		if err != nil || dec.Decode(&v) != nil {
			return nil
		}
		out = append(out, member{k.(string), string(v)})
	}
	return append(out, member{"", ""})
}

func TestShapeFindsDifferences(t *testing.T) {
	for _, x := range []struct{ got, want string }{
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`},
		{`{"a":1}`, `{"a":2}`},
		{`{"a":"1"}`, `{"a":1}`},
		{`{"a":1}`, `{"a":1,"b":2}`},
		{`[1,2]`, `[1]`},
		{`[]`, `[1]`},
		{`{"a":"x"}`, `{"a":"T"}`},
	} {
		if shape(x.got, x.want) == "" {
			t.Errorf("%s passes for %s", x.got, x.want)
		}
	}
	if why := shape(`{"a":1,"x":0,"b":[{"c":"2026-01-02T15:04:05.1Z","d":1}]}`, `{"a":1,"b":[{"c":"T"}]}`); why != "" {
		t.Error(why)
	}
}

func TestPredecessorsTickerStream(t *testing.T) {
	s := newStack(t)
	s.do(201, "POST", "/api/ticker", `{"ticker":"soon","interval":100000000}`)
	st := s.open("GET", "/api/ticker", "null", "Accept", "text/event-stream")
	f := st.next("ticker")
	if why := shape(f.data, `{"ticker":"soon","interval":100000000,"payload":{},"namespace":"default","timestamp":"T"}`); why != "" || f.id == "" {
		t.Errorf("%s: id %q, %s", why, f.id, f.data)
	}
}

// event is a server-sent event as it is on the wire.
type event struct{ name, id, data string }

// sse is an open stream.
type sse struct {
	*stack
	header map[string][]string
	body   io.ReadCloser
	events chan event // closed when the stream ends
}

// open opens a stream; it ends with the test.
func (s *stack) open(method, path, body string, header ...string) *sse {
	s.Helper()
	req := s.request(method, path, body, header...)
	resp, err := s.http.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(resp.Body)
		s.Fatal(resp.Status, string(b))
	}
	st := &sse{stack: s, header: resp.Header, body: resp.Body, events: make(chan event, 10_000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(st.events)
		st.read()
	}()
	s.Cleanup(func() { resp.Body.Close(); <-done })
	return st
}

// next is the next event, which must have this name.
func (st *sse) next(name string) event {
	st.Helper()
	select {
	case e, isOpen := <-st.events:
		if !isOpen || e.name != name {
			st.Fatalf("event %+v (open: %v), want %q", e, isOpen, name)
		}
		return e
	case <-time.After(30 * time.Second):
		st.Fatalf("no event %q", name)
		return event{}
	}
}
