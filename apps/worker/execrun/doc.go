// Package execrun works tasks by running a command for each.
//
// The command gets the payload on standard input, and about the task in its environment:
//
//	PGQUEUE_TASK_ID  PGQUEUE_TASK_QUEUE  PGQUEUE_TASK_KEY  PGQUEUE_TASK_ATTEMPT  PGQUEUE_TASK_RETRIES (left)
//	PGQUEUE_TASK_PRIORITY  PGQUEUE_TASK_CREATED_AT  PGQUEUE_TASK_DIES_AT (both RFC 3339, empty when unset)
//	PGQUEUE_TASK_HEADERS (a JSON object)  TRACEPARENT  TRACESTATE  BAGGAGE (from the headers, when there)
//
// and, for a pgqueue that it runs, PGQUEUE_NAMESPACE, and PGQUEUE_URL and PGQUEUE_PROTOCOL when the worker asks a server.
//
// Its exit code is the outcome; the whole table is in exits.go:
//
//	0         done; standard output is the result: as it is when it is JSON, else {"text": …}, nothing when empty
//	75        try later (EX_TEMPFAIL): failed, tried again after the queue's backoff while retries last
//	100       failed for good, whatever retries are left
//	126, 127  the worker's own trouble when the command itself is not there: handed back; else as 75
//	others    as 75; so does death by a signal
//
// What keeps a command from being started is the worker's own trouble too.
//
// A failure is kept as {"error": …, "exit_code": …, "stderr": its end, "output": …}. Lines on standard error go to the
// task's log as they come.
//
// When the task's context ends (a cancel, its ttl, a lost lease, the end of the drain) the command's process group gets
// SIGTERM, and SIGKILL when it is still there after KillAfter. What is left of the group when the command has ended is
// killed. Where there are no process groups the process itself is
// killed at once.
package execrun
