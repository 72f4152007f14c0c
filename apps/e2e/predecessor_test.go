package e2e_test

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
)

// predecessorCalls are the calls of the predecessor's Go client in the order of its use, with the status and a part of the
// answer. Contract section 7 has the bodies; transport/rest compares each answer field by field.
var predecessorCalls = []struct {
	method, path, body string
	status             int
	answer             string
}{
	{"POST", "/queue", `{"queue":"emails","ttl":3600000000000,"retries":3,"retry_delay":60000000000}`, 201, `"queue":"emails"`},
	{"PATCH", "/queue/emails", `{"queue":"","ttl":null,"retries":2,"retry_delay":null}`, 200, `"retries":2`},
	{"GET", "/queue?limit=10", "", 200, `"count":1`},
	{"POST", "/task", `{"queue":"emails","payload":{"to":"a@b.c"}}`, 201, `"id":1`},
	{"POST", "/task", `{"queue":"emails","payload":null}`, 201, `"id":2`},
	{"GET", "/task?status=new", "", 200, `"count":2`},
	{"PUT", "/task/emails?worker=w1", "", 200, `"worker":"w1"`},
	{"PATCH", "/task/1", `{}`, 200, `"status":"released"`},
	{"PUT", "/task?worker=w1", "", 200, `"id":2`},
	{"PATCH", "/task/2", `{"result":{"msg":"failed"},"fail":true}`, 200, `"status":"retry"`},
	{"PUT", "/task/emails?worker=w1", "", 404, ""},
	{"GET", "/namespace", "", 200, `"default"`},
	{"POST", "/ticker", `{"ticker":"soon","interval":100000000,"payload":null}`, 201, `"ticker":"soon"`},
	{"GET", "/ticker/soon", "", 200, `"ticker":"soon"`},
	{"GET", "/ticker", "null", 200, "data: "}, // its stream
	{"DELETE", "/ticker/soon", "", 200, `"ticker":"soon"`},
	{"GET", "/metrics", "", 200, `queue_tasks{namespace="default",queue="emails",status="retry"} 1`},
	{"DELETE", "/queue/emails", "", 200, `"queue":"emails"`},
}

// TestPredecessorsClient sends what the predecessor's Go client sends: to an open server without a change, and to a closed one
// with a token of its environment, for which the client has an option. Without one the closed server refuses each call.
func TestPredecessorsClient(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	const variable = "PREDECESSOR_TOKEN"
	t.Setenv(variable, access.NewSecret().Reveal())
	open := startNodeAt(t, postgrestest.URL(t))
	closed := startNodeAt(t, postgrestest.URL(t), "--admin-token-file", writeSecret(t, os.Getenv(variable)))

	for name, c := range map[string]struct {
		n       *node
		token   string
		refused bool
	}{
		"an open server, without a token":             {open, "", false},
		"a closed server, with a token":               {closed, os.Getenv(variable), false},
		"a closed server, without a token":            {closed, "", true},
		"a closed server, with a token of another":    {closed, access.NewSecret().Reveal(), true},
		"a closed server, with the user in the URL":   {closed, "user:" + os.Getenv(variable), true},
		"a closed server, with a token of no Bearer":  {closed, "Token " + os.Getenv(variable), true},
		"an open server, with a token that is unused": {open, access.NewSecret().Reveal(), true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range predecessorCalls {
				status, answer := callAsPredecessor(t, c.n, c.token, call.method, call.path, call.body)
				switch {
				case c.refused && status != http.StatusUnauthorized && status != http.StatusTooManyRequests:
					t.Errorf("%s %s: %d, want a refusal", call.method, call.path, status)
				case !c.refused && (status != call.status || !strings.Contains(answer, call.answer)):
					t.Errorf("%s %s: %d %s, want %d with %s", call.method, call.path, status, answer, call.status, call.answer)
				}
			}
		})
	}
}

// callAsPredecessor sends a request with the headers of the predecessor's client and returns the status and the answer; of a
// stream, its first event.
func callAsPredecessor(t *testing.T, n *node, token, method, path, body string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "go-client")
	req.Header.Set("Accept", "*/*")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if body == "null" {
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Cache-Control", "no-cache")
	}
	user, password, isPair := strings.Cut(token, ":")
	switch {
	case isPair:
		req.SetBasicAuth(user, password)
	case strings.Contains(token, " "):
		req.Header.Set("Authorization", token)
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "data: ") {
			break
		}
	}
	return resp.StatusCode, text.String()
}
