package restapi_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

func TestAppendKeepsRawValuesByteByByte(t *testing.T) {
	type embedding struct{ restapi.Count }
	zone := time.FixedZone("", 3600)
	raw := "{\"n\" : 1e400,\n\"s\":\"\\u0000<\"}"
	for _, x := range []struct {
		value any
		want  string
	}{
		{nil, `null`},
		{&restapi.AttemptError{Attempt: 1, Error: []byte(raw)}, `{"attempt":1,"at":"0001-01-01T00:00:00Z","error":` + raw + `}`},
		{[]restapi.Worker{{Since: time.Date(2026, 1, 2, 16, 4, 5, 0, zone)}}, `[{"worker":"","held":0,"since":"2026-01-02T15:04:05Z","queues":null,"expires_at":"0001-01-01T00:00:00Z"}]`},
		{embedding{restapi.Count{Count: 2}}, `{"count":2}`},
		{map[string]any{"b": []any{1.5, true, "é<\n"}, "a": 1}, `{"a":1,"b":[1.5,true,"é<\n"]}`},
		{restapi.Stream{Stream: "\u2028"}, `{"stream":"\u2028"}`},
		{restapi.List[map[string]int]{Body: []map[string]int{{"more": 0}}}, `{"count":0,"body":[{"more":0}]}`},
	} {
		if got := string(appended(t, x.value)); got != x.want {
			t.Errorf("%s, want %s", got, x.want)
		}
	}
	if _, err := restapi.Append(nil, func() {}); err == nil {
		t.Error("a function is JSON")
	}
}

func BenchmarkAppend(b *testing.B) {
	lease := restapi.Lease{Token: 1, ExpiresAt: time.Now(), Duration: 300e9}
	task := restapi.Task{
		ID: 1, Payload: []byte(`{"to":"a@b.c"}`), Worker: "w1", Namespace: "default", Queue: "mail", CreatedAt: time.Now(),
		StartedAt: time.Now(), Retries: 3, Status: "retained", Attempt: 1, Lease: &lease,
	}
	list := restapi.ListOf([]restapi.Task{task, task, task, task})
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := restapi.Append(buf, list); err != nil {
			b.Fatal(err)
		}
	}
}
