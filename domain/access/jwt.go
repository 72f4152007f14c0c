package access

import "context"

// Verifier is the driven port to the issuers of JWTs. It is safe for concurrent use.
type Verifier interface {
	// Verify returns the identity that a JWT proves. KindUnauthenticated for a text that is not a valid JWT of a trusted
	// issuer, with a [ClaimError] as its cause; KindUnavailable when no issuer answers to check it.
	Verify(ctx context.Context, text string) (Proof, error)
}

// ClaimError is the cause of the refusal of a JWT, with the identity that it claims without a proof. The texts are of the
// caller: [AuditEntry.Clean] makes them fit for a record.
type ClaimError struct {
	Issuer, Subject string
	Err             error
}

// Error returns the cause alone.
func (e *ClaimError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ClaimError) Unwrap() error { return e.Err }
