package httpaccess

import (
	"net/http"
	"strings"

	"github.com/pgqueue/pgqueue/domain/access"
)

const (
	// headerRequestID has the id of a request: the client may choose it, and each answer has it.
	headerRequestID = "X-Request-Id"
	// headerReason has the reason of a call for the audit, in the words of the caller.
	headerReason = "Pgqueue-Reason"
)

// Identify returns a handler that passes requests to next with their [access.Caller] in the context. The id of the request
// goes into the header of the answer too, so the client, the log and the audit have the same one. It must precede every part
// that answers, logs or records.
func Identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := access.RequestID(r.Header.Get(headerRequestID))
		w.Header().Set(headerRequestID, id)
		next.ServeHTTP(w, r.WithContext(access.WithCaller(r.Context(), access.Caller{
			RequestID: id, Via: viaOf(r), Remote: r.RemoteAddr, Reason: r.Header.Get(headerReason),
		})))
	})
}

// viaOf returns the way in of r. The type of the body selects the protocol of a procedure, here as in the server of procedures.
func viaOf(r *http.Request) access.Via {
	media := r.Header.Get("Content-Type")
	switch {
	case !strings.HasPrefix(r.URL.Path, "/pgqueue."):
		return access.ViaREST
	case strings.HasPrefix(media, "application/grpc-web"):
		return access.ViaGRPCWeb
	case strings.HasPrefix(media, "application/grpc"):
		return access.ViaGRPC
	}
	return access.ViaConnect
}
