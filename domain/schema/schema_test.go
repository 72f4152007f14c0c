package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

func TestCheckSource(t *testing.T) {
	full := `{"title":"` + strings.Repeat("a", schema.MaxBytes-12) + `"}`
	for _, source := range []string{`{}`, " \n\ttrue", `false`, full} {
		if err := schema.CheckSource(json.RawMessage(source)); err != nil {
			t.Errorf("%.20s: %v", source, err)
		}
	}
	for source, want := range map[string]queue.Kind{
		``: queue.KindInvalid, `[]`: queue.KindInvalid, `"a"`: queue.KindInvalid, `null`: queue.KindInvalid, `17`: queue.KindInvalid, `{`: queue.KindInvalid,
		`{"minimum":1e401}`: queue.KindInvalid, full + " ": queue.KindTooLarge, "{\"a\":\"\xff\"}": queue.KindInvalid,
	} {
		err := schema.CheckSource(json.RawMessage(source))
		if queue.KindOf(err) != want || !strings.HasPrefix(err.Error(), "schema: ") {
			t.Errorf("%.20s: got %v", source, err)
		}
	}
}

func TestReport(t *testing.T) {
	if (schema.Report{}).Err("payload") != nil || !(schema.Report{}).OK() {
		t.Error("a report without faults is an error")
	}
	r := schema.Report{Faults: []schema.Fault{{Msg: "must be object"}, {Pointer: "/a/0", Keyword: "type", Msg: "must be integer"}}}
	want := "payload: must match the schema of its queue, got faults: must be object, /a/0 must be integer; correct the payload, or change the schema"
	if err := r.Err("payload"); err.Error() != want || queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("got %v", err)
	}
	r.More = true
	if got := r.String(); !strings.HasSuffix(got, "must be integer and more") {
		t.Errorf("got %s", got)
	}
	if err := (schema.Report{More: true}).Err("payload"); !strings.Contains(err.Error(), "too many faults to list") {
		t.Errorf("got %v", err)
	}
}
