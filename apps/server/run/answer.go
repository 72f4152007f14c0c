package run

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// rpcCodes maps the errors outside of the transports to the codes of Connect and gRPC.
var rpcCodes = map[queue.Kind]struct{ connect, grpc string }{
	queue.KindInvalid:         {"invalid_argument", "3"},
	queue.KindDenied:          {"permission_denied", "7"},
	queue.KindUnauthenticated: {"unauthenticated", "16"},
	queue.KindUnavailable:     {"unavailable", "14"},
}

// answerError answers a request that reaches no transport, in the protocol of the request. The status of gRPC is a
// header, because gRPC clients read only headers here. A stream of Connect has the error of a credential in its last message,
// which is the only one here, and the status 200.
func answerError(w http.ResponseWriter, r *http.Request, status int, err *queue.Error) {
	h := w.Header()
	text := err.Msg
	if err.Field != "" {
		text = err.Field + ": " + text
	}

	switch media := r.Header.Get("Content-Type"); {
	case strings.HasPrefix(media, "application/grpc"):
		h.Set("Content-Type", media)
		h.Set("Grpc-Status", rpcCodes[err.Kind].grpc)
		h.Set("Grpc-Message", url.PathEscape(text))
		return

	// The checks of browsers keep their status: they refuse requests that no client of Connect makes.
	case strings.HasPrefix(media, "application/connect+") && (err.Kind == queue.KindUnauthenticated || slices.Contains(credentialFields, err.Field)):
		// Texts always marshal.
		end, _ := json.Marshal(map[string]any{"error": connectError(err, text)})
		h.Set("Content-Type", media)
		_, _ = w.Write(binary.BigEndian.AppendUint32([]byte{endOfStream}, uint32(len(end)))) //nolint:gosec // a short text
		_, _ = w.Write(end)
		return
	}

	problem := restapi.ProblemOf(err)
	problem.Status = status
	problem.RequestID = h.Get(restapi.HeaderRequestID)
	media := restapi.MediaProblem
	// A problem always encodes.
	body, _ := restapi.Append(nil, problem)
	if isRPCRequest(r) {
		// RPC clients expect the format of Connect.
		media = restapi.MediaJSON
		// Texts always marshal.
		body, _ = json.Marshal(connectError(err, text))
	}

	h.Set("Content-Type", media)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// credentialFields are the fields of errors of credentials.
var credentialFields = []string{"Authorization", "Cookie", "certificate"}

// endOfStream marks the last message of a stream of Connect.
const endOfStream = 2

// connectError returns an error in the format of Connect.
func connectError(err *queue.Error, text string) map[string]string {
	return map[string]string{"code": rpcCodes[err.Kind].connect, "message": text}
}

// answerDomainError answers with an error of the domain and the status of its kind.
func answerDomainError(w http.ResponseWriter, r *http.Request, err error) {
	fault, ok := errors.AsType[*queue.Error](err)
	if !ok {
		fault = &queue.Error{Kind: queue.KindInternal, Err: err}
	}
	answerError(w, r, restapi.StatusOf(fault.Kind), fault)
}

// isRPCRequest reports whether a request is for one of the services of Connect and gRPC.
func isRPCRequest(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/pgqueue.") || strings.HasPrefix(r.URL.Path, "/grpc.")
}
