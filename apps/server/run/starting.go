package run

import (
	"net/http"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// starting answers requests during the start, such as the wait for the database: the process is alive but not ready.
// Each client reads the answer in its own protocol as unavailable and tries again.
func starting(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/livez" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
		return
	}
	w.Header().Set("Retry-After", "1")
	answerError(w, r, http.StatusServiceUnavailable, &queue.Error{Kind: queue.KindUnavailable, Msg: "the server is starting; retry later"})
}
