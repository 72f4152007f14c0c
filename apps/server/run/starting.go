package run

import (
	"net/http"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// starting answers while there is nothing to serve from yet, as while the database is waited for: the process is alive,
// and not ready. Each client reads it in its own protocol as unavailable, and tries again.
func starting(w http.ResponseWriter, r *http.Request) {
	const why = "the server is starting"
	h := w.Header()
	if r.URL.Path == "/livez" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	h.Set("Retry-After", "1")
	if media := r.Header.Get("Content-Type"); strings.HasPrefix(media, "application/grpc") {
		h.Set("Content-Type", media)
		h.Set("Grpc-Status", "14") // unavailable
		h.Set("Grpc-Message", why)
		return
	}
	media, body := restapi.MediaProblem, restapi.ProblemOf(&queue.Error{Kind: queue.KindUnavailable, Msg: why}).AppendJSON(nil)
	if strings.HasPrefix(r.URL.Path, "/pgqueue.") {
		media, body = restapi.MediaJSON, []byte(`{"code":"unavailable","message":"`+why+`"}`) // as Connect has it
	}
	h.Set("Content-Type", media)
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(body)
}
