package seal

import (
	"encoding/json"
	"fmt"
)

// ErrorKind is the kind of every error of this package about sealed bytes, for queues that list kinds in non_retryable.
const ErrorKind = "sealed_payload"

// Reason says why bytes cannot be opened.
type Reason string

// The reasons.
const (
	// ReasonClear: the bytes are not sealed, and the codec demands it.
	ReasonClear Reason = "clear"
	// ReasonEnvelope: the bytes are not an envelope of a known version.
	ReasonEnvelope Reason = "envelope"
	// ReasonUnknownKey: the wrapper does not have the key.
	ReasonUnknownKey Reason = "unknown_key"
	// ReasonWrongKey: the wrapper has another key of that name.
	ReasonWrongKey Reason = "wrong_key"
	// ReasonChanged: the bytes were changed, or sealed for another namespace, queue, group or purpose.
	ReasonChanged Reason = "changed"
)

// Error is the error of sealed bytes that cannot be opened. Its text has no part of them but the name of the key.
type Error struct {
	Reason Reason
	// KeyID is the name of the key in the envelope, "" when that is unknown.
	KeyID string
	Err   error
}

// Error returns the rule, the reason and the remedy.
func (e *Error) Error() string {
	switch e.Reason {
	case ReasonClear:
		return "sealed payload: must be sealed, got clear JSON; seal it in the producer, or accept clear payloads"
	case ReasonEnvelope:
		return fmt.Sprintf("sealed payload: must be an envelope of version %d, got another form; use one version of the codec", version)
	case ReasonUnknownKey:
		return fmt.Sprintf("sealed payload: the key %.64q is unknown here; add it to the keys of this worker", e.KeyID)
	case ReasonWrongKey:
		return fmt.Sprintf("sealed payload: the key %.64q of this worker is another one; use the key of the producer", e.KeyID)
	case ReasonChanged:
		return "sealed payload: it was changed, or sealed for another namespace, queue or group; create the task again where it belongs"
	}
	return "sealed payload: it does not open; create the task again"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrorKind returns the kind of the error, for the failure of a task.
func (*Error) ErrorKind() string { return ErrorKind }

// MarshalJSON gives the error of the task its kind and its reason.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"kind": ErrorKind, "reason": string(e.Reason), "error": e.Error()})
}
