package restapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func TestEveryKindSurvivesTheWire(t *testing.T) {
	for _, k := range queue.Kinds() {
		err := fmt.Errorf("outer: %w", &queue.Error{Op: "x", Kind: k, Subject: "queue q", Field: "f", Msg: "m", Err: errors.New("secret")})
		b, merr := json.Marshal(restapi.ProblemOf(err))
		if merr != nil {
			t.Fatal(merr)
		}
		var p restapi.Problem
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		back := p.Err("op")
		if !errors.Is(back, k) || back.Op != "op" || strings.Contains(string(b), "secret") || p.Status != restapi.StatusOf(k) {
			t.Errorf("%s came back as %#v from %s", k, back, b)
		}
		if k != queue.KindInternal && (back.Subject != "queue q" || back.Field != "f" || back.Msg != "m") {
			t.Errorf("%s lost something: %#v", k, back)
		}
		if p.Status < 400 {
			t.Errorf("%s has status %d", k, p.Status)
		}
	}
	if p := restapi.ProblemOf(errors.New("secret")); p.Code != "internal" || strings.Contains(p.Detail, "secret") {
		t.Errorf("%+v", p)
	}
}

// TestStatusWithoutACodeMeansItsKind lists the meaning of every status: in a problem with an unknown code, and in an answer
// without a problem. The statuses that are not listed are internal in both.
func TestStatusWithoutACodeMeansItsKind(t *testing.T) {
	type meaning struct{ ours, foreign queue.Kind }
	known := map[int]meaning{
		401: {queue.KindUnauthenticated, queue.KindUnauthenticated},
		403: {queue.KindDenied, queue.KindDenied},
		404: {queue.KindNotFound, queue.KindInternal},
		408: {queue.KindUnavailable, queue.KindUnavailable},
		409: {queue.KindConflict, queue.KindConflict},
		410: {queue.KindCursorExpired, queue.KindInternal},
		412: {queue.KindPrecondition, queue.KindInternal},
		413: {queue.KindTooLarge, queue.KindTooLarge},
		422: {queue.KindInvalid, queue.KindInternal},
		425: {queue.KindUnavailable, queue.KindUnavailable},
		429: {queue.KindUnavailable, queue.KindUnavailable},
		499: {queue.KindCanceled, queue.KindInternal},
		502: {queue.KindInternal, queue.KindIndeterminate},
		503: {queue.KindUnavailable, queue.KindIndeterminate},
		504: {queue.KindDeadline, queue.KindIndeterminate},
	}
	for status := 100; status <= 599; status++ {
		want, ok := known[status]
		if !ok {
			want = meaning{queue.KindInternal, queue.KindInternal}
		}
		got := meaning{restapi.KindOf(status, "no code of ours"), restapi.KindOfForeign(status)}
		if got != want {
			t.Errorf("%d means %+v, want %+v", status, got, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "1": 1, "3600000000000": time.Hour, "24h": 24 * time.Hour, "1m30s": 90 * time.Second, "7d": 7 * 24 * time.Hour,
		"1w": 7 * 24 * time.Hour, "1w1d1h1m1s1ms1us1ns": 8*24*time.Hour + time.Hour + time.Minute + time.Second + time.Millisecond + time.Microsecond + 1,
		"0.5d": 12 * time.Hour, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := restapi.ParseDuration("f", in); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "s", "d", "1x", "-1", "-1s", "+1s", "1 h", "1h ", "9223372036854775808", "106752d", "15251w", "106751d24h", "1e3s", "1.5", "--1s", "1h-1s", "∞",
	} {
		if d, err := restapi.ParseDuration("f", in); !errors.Is(err, queue.ErrInvalid) || fieldOf(err) != "f" {
			t.Errorf("%q is %v, %v", in, d, err)
		}
	}
}

func fieldOf(err error) string {
	if e, ok := errors.AsType[*queue.Error](err); ok {
		return e.Field
	}
	return ""
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1h", "7d", "-1", "1w2d", "9223372036854775807", "0.1us"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := restapi.ParseDuration("f", s); err == nil && d < 0 {
			t.Errorf("%q is %v", s, d)
		}
	})
}

// full returns a T with every field set.
func full[T any](t *testing.T) T {
	t.Helper()
	var v T
	fill(t, reflect.ValueOf(&v).Elem())
	return v
}

func fill(t *testing.T, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *json.RawMessage:
		*x = json.RawMessage(`{"a":[1,"<&>"]}`)
		return
	case *time.Time:
		*x = time.Date(2026, 1, 2, 15, 4, 5, 60, time.UTC)
		return
	case *restapi.Duration:
		*x = *restapi.DurationOf(time.Minute)
		return
	case *restapi.Time:
		*x = *restapi.TimeOf(time.Date(2026, 1, 2, 15, 4, 5, 60, time.UTC))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("sé\"<\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int16, reflect.Int64:
		v.SetInt(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"k": "v", "traceparent": "00"}))
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(t, f)
		}
	default:
		t.Fatalf("cannot fill %v", v.Type())
	}
}

// appended is v as it is written.
func appended(t *testing.T, v any) []byte {
	t.Helper()
	b, err := restapi.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// check compares Append with encoding/json.
func check[T any](t *testing.T) {
	t.Helper()
	for _, v := range []T{full[T](t)} {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		if got := string(appended(t, v)); got != strings.TrimSpace(want.String()) {
			t.Errorf("%T\nAppend        %s\nencoding/json %s", v, got, want.String())
		}
	}
}

func TestAppendWritesAsEncodingJSON(t *testing.T) {
	check[restapi.Task](t)
	check[restapi.Lease](t)
	check[restapi.AttemptError](t)
	check[restapi.NewTask](t)
	check[restapi.Release](t)
	check[restapi.Released](t)
	check[restapi.Heartbeat](t)
	check[restapi.Ticker](t)
	check[restapi.TickerMeta](t)
	check[restapi.Tick](t)
	check[restapi.Event](t)
	check[restapi.Problem](t)
	check[restapi.Stream](t)
	check[restapi.List[restapi.Task]](t)
}

func TestEverythingComesBackFromTheWire(t *testing.T) {
	task := full[restapi.Task](t)
	if back := restapi.TaskOf(task.Domain()); !reflect.DeepEqual(back, task) {
		t.Errorf("%+v\n%+v", back, task)
	}
	ticker := full[restapi.Ticker](t)
	if back := restapi.TickerOf(ticker.Domain()); !reflect.DeepEqual(back, ticker) {
		t.Errorf("%+v\n%+v", back, ticker)
	}
	tick := full[restapi.Tick](t)
	if back := restapi.TickOf(tick.Domain()); !reflect.DeepEqual(back, tick) {
		t.Errorf("%+v\n%+v", back, tick)
	}
	q := full[restapi.Queue](t)
	if back := restapi.QueueOf(q.Domain()); !reflect.DeepEqual(back, q) {
		t.Errorf("%+v\n%+v", back, q)
	}
	w := full[restapi.Worker](t)
	if back := restapi.WorkerOf(w.Domain()); !reflect.DeepEqual(back, w) {
		t.Errorf("%+v\n%+v", back, w)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	for body, field := range map[string]string{
		`{"queue":"q"`: "body", `{"queue":"q"}}`: "body", `{"quue":1}`: "quue", `{"queue":1}`: "queue", `{"priority":70000}`: "priority",
		`{"headers":[]}`: "headers", "{\"key\":\"\xff\"}": "body", `{"key":"\uD800"}`: "body", `{"key":"\uDC00\uD800"}`: "body",
		`{"key":"\uD800x"}`: "body", `{"key":"\uD800\\uDC00"}`: "body", ``: "body", `{"key":"\uD800\uD800\uDC00"}`: "body",
	} {
		var v restapi.NewTask
		if err := restapi.Decode([]byte(body), &v); !errors.Is(err, queue.ErrInvalid) || fieldOf(err) != field {
			t.Errorf("%s: %v, want field %s", body, err, field)
		}
	}
	for _, body := range []string{`{"key":"\ud83d\ude00"}`, `{"key":"\\ud800"}`, `{"payload":"\u0000"}`, ` {} `, `null`} {
		var v restapi.NewTask
		if err := restapi.Decode([]byte(body), &v); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"queue":"q","payload":{"a":1},"delay":"1h"}`))
	f.Add([]byte(`{"key":"\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var v restapi.NewTask
		if restapi.Decode(body, &v) != nil {
			return
		}
		nt, err := v.Domain()
		if err != nil {
			return
		}
		if nt, err = nt.Normalize(queue.DefaultMaxPayloadBytes); err != nil {
			return
		}
		// What passed is sent as it is and comes back the same.
		var again restapi.NewTask
		sent := appended(t, restapi.NewTaskOf(nt))
		if err := restapi.Decode(sent, &again); err != nil {
			t.Fatalf("%s: %v", sent, err)
		}
		back, err := again.Domain()
		if err != nil || !bytes.Equal(back.Payload, nt.Payload) || back.Key != nt.Key || !back.DelayedAt.Equal(nt.DelayedAt) || back.Delay != nt.Delay {
			t.Fatalf("%s: %+v, %v, want %+v", sent, back, err, nt)
		}
	})
}

func TestRoutesAreOne(t *testing.T) {
	ids, paths := map[string]bool{}, map[string]bool{}
	for _, r := range restapi.Routes() {
		if ids[r.ID] || paths[r.Method+r.Path] || r.Summary == "" || r.Tag == "" {
			t.Errorf("%+v", r)
		}
		ids[r.ID], paths[r.Method+r.Path] = true, true
	}
	if got := restapi.GetQueueStats.URL("a/b c"); got != "/queue/a%2Fb%20c/stats" {
		t.Error(got)
	}
	if restapi.StatusOf("nonsense") != http.StatusInternalServerError {
		t.Error("an unknown kind")
	}
}

// withoutRoute has the operations without a route of their own, and the routes that serve them.
var withoutRoute = map[queue.Op][]restapi.Route{
	queue.OpRegisterQueue:    {restapi.CreateQueue, restapi.UpdateQueue},
	queue.OpRegisterTicker:   {restapi.CreateTicker, restapi.UpdateTicker},
	queue.OpCleanQueueWithin: {restapi.CleanQueue},
	queue.OpSubscribeEvents:  {restapi.ListEvents},
	queue.OpLastEvent:        {restapi.ListEvents},
}

func TestEachOperationHasARoute(t *testing.T) {
	routes := map[queue.Op]restapi.Route{}
	for _, r := range restapi.Routes() {
		routes[r.Op] = r
	}

	for _, op := range slices.Concat(queue.ServiceOps(), queue.AdminOps()) {
		method := op.Operation().Method
		switch r, served := routes[op], withoutRoute[op]; {
		case r.Path == "" && served == nil:
			t.Errorf("%s: must have a route in restapi/route.go, got none", method)
		case r.Path != "" && served != nil:
			t.Errorf("%s: withoutRoute must not name it, because %s has its route", method, r.ID)
		}
	}
}

func TestImportsTheDomainAndTheStandardLibraryOnly(t *testing.T) {
	for pkg, forbidden := range map[string][]string{
		"../restapi": {"huma", "restserver", "restclient", "adapters"}, "../restclient": {"huma", "restserver", "adapters", "klauspost"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for dep := range strings.Lines(string(out)) {
			for _, f := range forbidden {
				if strings.Contains(dep, f) && !strings.HasSuffix(strings.TrimSpace(dep), strings.TrimPrefix(pkg, "../")) {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		}
	}
}
