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
// The answer is the outcome; the whole tables are in statuses.go and faults.go:
//
//	2xx        done; the body is the result: as it is when it is JSON, else {"text": …}, nothing when empty
//	410, 422   failed for good; Config.Permanent names others
//	others     failed, tried again after Retry-After, else after the queue's backoff, while retries last
//
// Of the others those that speak of the target instead of the task, as 404 and 503, are worker.Systemic. Without an answer
// it is the worker's own trouble (worker.NotStarted), the target's, or maybe the task's.
//
// A failure is kept as {"error": …, "status": …, "body": …}. Redirects are not followed; they are a failure. Private
// addresses (loopback, link-local, RFC 1918 …) are refused when the connection is made, after the name is resolved, so
// that no DNS answer leads around it. A proxy of the environment is not used: it would resolve the name itself.
package httprun
