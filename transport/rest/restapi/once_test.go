package restapi_test

import (
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func TestAFieldIsThereOnce(t *testing.T) {
	for body, field := range map[string]string{
		`{"queue":"a","queue":"b"}`:                        "queue",
		`{"queue":"a","payload":{},"Queue":"b"}`:           "Queue",
		`{"payload":{"a":1},"payload":{"a":2}}`:            "payload",
		`{"\u0071ueue":"a","queue":"b"}`:                   "queue",
		`{"\u0071ueue":"a","key":"\"}"}`:                   "",
		`{"payload":"a\"b\\","key":"k","payload":1}`:       "payload",
		`{"key":"payload","payload":["key",{"key":1}]}`:    "",
		`{"payload":{"a":1,"a":2},"queue":"q"}`:            "", // it is kept as it is
		`{"payload":"\\\",\"queue\":\"x","queue":"q"}`:     "",
		`{"payload":[{"queue":1},{"queue":2}],"queue":""}`: "",
		`{}`: "",
	} {
		var task restapi.NewTask
		err := restapi.Decode([]byte(body), &task)
		if field == "" && err != nil || field != "" && (queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), field+": must not be there twice")) {
			t.Errorf("%s: %v", body, err)
		}
	}
	for body, valid := range map[string]bool{
		`{"queue":"q","headers":{"a":"1","a":"2"}}`:                      false,
		`{"headers" : {"b":"\"","a":"1","\u0061":"2"},"queue":"q"}`:      false,
		`{"Headers":{"a":"1","b":"a","A":"2"},"queue":"q"}`:              true,
		`{"queue":"q","headers":null,"payload":{"a":1,"a":2}}`:           true,
		`{"queue":"q","payload":{"headers":{"a":1,"a":2}},"headers":{}}`: true,
		`{"queue":"headers","key":"headers","payload":{"a":1,"a":2}}`:    true,
	} {
		var task restapi.NewTask
		err := restapi.Decode([]byte(body), &task)
		if valid != (err == nil) || !valid && !strings.Contains(err.Error(), "headers: must have each name once") {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, broken := range []string{`{"queue":"a`, `{"queue`, `{"a\`, `"\`, `{`, `,"a":1`, `}}}`, ``} {
		var task restapi.NewTask
		if err := restapi.Decode([]byte(broken), &task); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%q: %v", broken, err)
		}
	}
	if _, err := restapi.DecodeLines[restapi.NewTask]([]byte("{\"queue\":\"a\"}\n{\"key\":\"a\",\"key\":\"b\"}\n")); err == nil || !strings.Contains(err.Error(), "tasks[1].key") {
		t.Error(err)
	}
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"queue":"mail","payload":{"to":"a@b.c","subject":"hello","lines":[1,2,3]},"key":"order-17","headers":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}`)
	b.ReportAllocs()
	for b.Loop() {
		var task restapi.NewTask
		if err := restapi.Decode(body, &task); err != nil {
			b.Fatal(err)
		}
	}
}
