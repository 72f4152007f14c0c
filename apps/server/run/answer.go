package run

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// rpcCodes are the codes of Connect and gRPC for the errors that no transport sees.
var rpcCodes = map[queue.Kind]struct{ connect, grpc string }{
	queue.KindInvalid:     {"invalid_argument", "3"},
	queue.KindDenied:      {"permission_denied", "7"},
	queue.KindUnavailable: {"unavailable", "14"},
}

// answerError answers a request that no transport gets, in the protocol that it speaks. The status of gRPC is a header:
// its clients read nothing else.
func answerError(w http.ResponseWriter, r *http.Request, status int, err *queue.Error) {
	h := w.Header()
	text := err.Msg
	if err.Field != "" {
		text = err.Field + ": " + text
	}
	if media := r.Header.Get("Content-Type"); strings.HasPrefix(media, "application/grpc") {
		h.Set("Content-Type", media)
		h.Set("Grpc-Status", rpcCodes[err.Kind].grpc)
		h.Set("Grpc-Message", url.PathEscape(text))
		return
	}
	problem := restapi.ProblemOf(err)
	problem.Status = status
	media := restapi.MediaProblem
	body, _ := restapi.Append(nil, problem) // a problem always encodes
	if isRPC(r) {                           // as Connect has it
		media = restapi.MediaJSON
		body, _ = json.Marshal(map[string]string{"code": rpcCodes[err.Kind].connect, "message": text}) // texts always marshal
	}
	h.Set("Content-Type", media)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// isRPC says whether a request is for one of the services of Connect and gRPC.
func isRPC(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/pgqueue.") || strings.HasPrefix(r.URL.Path, "/grpc.")
}
