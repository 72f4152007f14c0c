package httprun

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestProblemTypeIsTheKindOfTheError(t *testing.T) {
	const problem = "application/problem+json; charset=utf-8"
	end := "/" + strings.Repeat("e", queue.MaxErrorKindBytes-1)
	for _, c := range []struct{ media, body, kind string }{
		{problem, `{"type":"https://example.com/busy"}`, "https://example.com/busy"},
		{problem, `{"type":"https://example.com/problems` + end + `"}`, end},
		{problem, `{"type":"` + strings.Repeat("é", queue.MaxErrorKindBytes/2) + `x"}`, strings.Repeat("é", queue.MaxErrorKindBytes/2-1) + "x"},
		{problem, `{"type":"about:blank"}`, ""},
		{problem, `{"type":"quarantined"}`, ""},
		{problem, `{"type":7}`, ""},
		{problem, `{`, ""},
		{problem, `{}`, ""},
		{"application/json", `{"type":"https://example.com/busy"}`, ""},
		{"", `{"type":"https://example.com/busy"}`, ""},
	} {
		rel := post(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{c.media}
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = w.Write([]byte(c.body))
		}, Config{}, task("{}"))
		if rel.ErrorKind != c.kind || rel.Outcome != queue.OutcomePermanent {
			t.Errorf("%s %s has the kind %q and the outcome %s, want %q", c.media, c.body, rel.ErrorKind, rel.Outcome, c.kind)
		}
	}
}
