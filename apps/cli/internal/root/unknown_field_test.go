package root

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// TestMisspeltFieldsAreRefusedOnEveryWayIn sends the same misspelt fields over REST, by import and over Connect: a filter
// without its field would select all tasks, and a task without its payload would be created.
func TestMisspeltFieldsAreRefusedOnEveryWayIn(t *testing.T) {
	base := startServer(t)
	s := newShell(t, base)
	s.must("create-queue", "mail")
	s.must("create-task", "mail", "--payload", "1")

	for _, x := range []struct{ field, meant, value string }{
		{"payloda", "payload", `"e30="`}, {"priorty", "priority", "3"}, {"delayd_at", "delayed_at", `"2030-01-01T00:00:00Z"`}, {"colour", "", "1"},
	} {
		task := fmt.Sprintf(`{"queue":"mail",%q:%s}`, x.field, x.value)
		says := []string{x.field, "unknown field", x.meant}
		if x.meant != "" {
			says = append(says, "did you mean "+x.meant+"?")
		}

		refusedOverHTTP(t, 422, base+"/task", task, says...)
		refusedOverHTTP(t, 422, base+"/task/batch", "["+task+"]", says...)
		code, out, errOut := s.run(false, task+"\n", "import", "-")
		if code != program.ExitUsage || !strings.Contains(out, `"created":0`) || !hasAll(errOut, says) {
			t.Errorf("import of %s: %d %s%s", task, code, out, errOut)
		}
		refusedOverRPC(t, base, "TaskService/CreateTask", `{"task":`+task+`}`, says...)
		refusedOverRPC(t, base, "TaskService/CreateTasks", `{"tasks":[`+task+`]}`, says...)
	}

	for _, method := range []string{"delete", "cancel", "retry"} {
		for field, meant := range map[string]string{"stauts": "status", "workre": "worker", "created-after": "created_after"} {
			value := map[string]string{"stauts": `["failed"]`, "workre": `"w"`, "created-after": `"2030-01-01T00:00:00Z"`}[field]
			says := []string{field, "unknown field; did you mean " + meant + "?"}

			refusedOverHTTP(t, 422, base+"/task/"+method, fmt.Sprintf(`{"queue":"mail",%q:%s}`, field, value), says...)
			value = strings.Replace(value, "failed", "STATUS_FAILED", 1)
			procedure := "TaskService/" + strings.ToUpper(method[:1]) + method[1:] + "Tasks"
			refusedOverRPC(t, base, procedure, fmt.Sprintf(`{"selection":{"filter":{"queue":"mail",%q:%s}}}`, field, value), says...)
		}
	}
	refusedOverRPC(t, base, "TaskService/DeleteTasks", `{"selection":{"filter":{"queue":"mail","status":["STATUS_FAILD"]}}}`, "STATUS_FAILD")
	refusedOverRPC(t, base, "TaskService/DeleteTasks", `{"selection":{"dryrun":true,"filter":{"queue":"mail"}}}`, "did you mean dry_run?")

	if out := s.must("tasks"); !strings.Contains(out, `"count":1,`) || !strings.Contains(out, `"status":"new"`) {
		t.Error("a refused request had an effect:", out)
	}
}

func hasAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// post sends body, and returns the status and the answer with its trailers.
func post(t *testing.T, to, media, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()

	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	message := resp.Trailer.Get("Grpc-Message") + resp.Header.Get("Grpc-Message")
	if plain, err := url.PathUnescape(message); err == nil {
		message = plain
	}
	status := resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status")
	return resp.StatusCode, fmt.Sprintf("%s grpc-status %s: %s", answer, status, message)
}

func refusedOverHTTP(t *testing.T, status int, to, body string, says ...string) {
	t.Helper()
	if got, answer := post(t, to, "application/json", body); got != status || !hasAll(answer, says) {
		t.Errorf("%s %s: %d %s, want %d and %q", to, body, got, answer, status, says)
	}
}

// refusedOverRPC sends body over Connect and over gRPC, both with JSON.
func refusedOverRPC(t *testing.T, base, procedure, body string, says ...string) {
	t.Helper()
	to := strings.TrimSuffix(base, "/api") + "/pgqueue.v1." + procedure
	refusedOverHTTP(t, 400, to, body, append(says, `"invalid_argument"`)...)

	var message bytes.Buffer
	message.WriteByte(0)
	_ = binary.Write(&message, binary.BigEndian, uint32(len(body)))
	message.WriteString(body)
	if _, answer := post(t, to, "application/grpc+json", message.String()); !hasAll(answer, append(says, "grpc-status 3")) {
		t.Errorf("gRPC %s %s: %s, want %q", to, body, answer, says)
	}
}
