package httprun

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// problemType returns the type of the problem of RFC 9457 in an answer as a kind of error; "" without one. Long types have a
// beginning in common, so a type above the limit is kept by its end.
func problemType(header http.Header, body []byte) string {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" {
		return ""
	}
	var problem struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Type == "about:blank" {
		return ""
	}

	kind := strings.ToValidUTF8(problem.Type, "\uFFFD")
	if extra := len(kind) - queue.MaxErrorKindBytes; extra > 0 {
		// The cut must not split a character.
		for ; !utf8.RuneStart(kind[extra]); extra++ {
		}
		kind = kind[extra:]
	}
	return queue.CleanErrorKind(kind)
}
