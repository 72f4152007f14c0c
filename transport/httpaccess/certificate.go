package httpaccess

import (
	"errors"
	"net/http"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// answerCertificate answers a request by its client certificate, and reports whether it did. A certificate alone proves the
// principal. One with grants beside another credential is refused, because the two name different principals. One without
// grants, as of a proxy in front, says nothing about the client, so the other credential decides.
func (c Credentials) answerCertificate(w http.ResponseWriter, r *http.Request, other bool, next http.Handler) bool {
	if c.Certificate == nil {
		return false
	}

	p, fault := c.Certificate(r)
	switch {
	case fault != nil:
		c.refuseCertificate(w, r, fault)
	case p == nil:
		return false
	case other && len(p.Grants()) > 0:
		reason := queue.Invalid("Authorization",
			"must not come with a client certificate that has grants, got both; leave one out, or take the rule of the certificate out of the access file")
		c.Audit.Record(access.With(r.Context(), p), access.AuditEntry{}, reason)
		c.Refuse(w, r, http.StatusBadRequest, reason)
	case other || len(p.Grants()) == 0 && c.Open(r):
		return false
	default:
		next.ServeHTTP(w, r.WithContext(access.With(r.Context(), p)))
	}
	return true
}

// refuseCertificate answers a request over a connection with a certificate that is no longer valid, or without one that it needs.
func (c Credentials) refuseCertificate(w http.ResponseWriter, r *http.Request, fault error) {
	reason, ok := errors.AsType[*queue.Error](fault)
	if !ok || reason.Kind != queue.KindUnauthenticated {
		reason = &queue.Error{Kind: queue.KindUnauthenticated, Msg: "must prove a name, but the check failed; look into the log of the server", Err: fault}
	}
	refused := *reason
	refused.Field = refusedCertificate
	c.Audit.Record(r.Context(), access.AuditEntry{PrincipalKind: access.KindCertificate}, &refused)
	if c.refuseMany(w, r, refusedCertificate) {
		return
	}
	c.Refuse(w, r, http.StatusUnauthorized, &refused)
}
