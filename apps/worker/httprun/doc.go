// Package httprun handles tasks by a POST of each to a URL.
//
// The body is the payload. The request has
//
//	Content-Type: application/json
//	Pgqueue-Task-Id  Pgqueue-Namespace  Pgqueue-Queue  Pgqueue-Attempt  Pgqueue-Retries (left)
//	Pgqueue-Key  Pgqueue-Group  Traceparent  Tracestate  Baggage (from the task, if present)
//	Webhook-Id: task_<namespace>_<id>, the same in every attempt   Webhook-Timestamp: seconds
//	Webhook-Signature: v1,<base64>, by the Standard Webhooks scheme, one for each secret; none without a secret
//
// The answer is the outcome. The complete tables are in statuses.go and faults.go:
//
//	2xx        done; the body is the result: unchanged if it is JSON, else {"text": …}, nothing if empty
//	410, 422   failed permanently; Config.Permanent names others
//	others     failed, tried again after Retry-After, else after the queue's backoff, while retries last
//
// After 429 and 503 with Retry-After no other task of the group starts before that time, or of the queue when the task has no
// group; Config.HoldUp changes the part that waits.
//
// Among the others, statuses that concern the target instead of the task, such as 404 and 503, are worker.Systemic. A
// missing answer is a fault of the worker (worker.NotStarted), of the target, or perhaps of the task.
//
// A failure is kept as {"error": …, "status": …, "body": …}. Redirects are not followed; they are a failure. Private
// addresses (loopback, link-local, RFC 1918 …) are refused at the connect, after the name is resolved, so that no DNS
// answer avoids the check. A proxy of the environment is not used, because it would resolve the name itself.
package httprun
