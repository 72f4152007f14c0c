// Package httprun works tasks by a POST of each to an URL.
//
// The body is the payload. The request has
//
//	Content-Type: application/json
//	Pgqueue-Task-Id  Pgqueue-Namespace  Pgqueue-Queue  Pgqueue-Attempt  Pgqueue-Retries (left)
//	Pgqueue-Key  Traceparent  Tracestate  Baggage (from the task, when there)
//	Webhook-Id: task_<namespace>_<id>, the same in every attempt   Webhook-Timestamp: seconds
//	Webhook-Signature: v1,<base64>, by the Standard Webhooks scheme, one for each secret; none without a secret
//
// The answer is the outcome:
//
//	2xx        done; the body is the result: as it is when it is JSON, else {"text": …}, nothing when empty
//	429, 503   with Retry-After (seconds or a date): failed, tried again then; without it: as any other
//	4xx        failed for good
//	others     failed, tried again after the queue's backoff while retries last; so do network errors and time-outs
//
// A failure is kept as {"error": …, "status": …, "body": …}. Redirects are not followed; they are a failure. Private
// addresses (loopback, link-local, RFC 1918 …) are refused when the connection is made, after the name is resolved, so
// that no DNS answer leads around it. A proxy of the environment is not used: it would resolve the name itself.
package httprun
