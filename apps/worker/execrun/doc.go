// Package execrun handles tasks by running a command for each.
//
// The command gets the payload on standard input, and the facts of the task in its environment:
//
//	PGQUEUE_TASK_ID  PGQUEUE_TASK_QUEUE  PGQUEUE_TASK_KEY  PGQUEUE_TASK_GROUP  PGQUEUE_TASK_ATTEMPT  PGQUEUE_TASK_RETRIES (left)
//	PGQUEUE_TASK_PRIORITY  PGQUEUE_TASK_CREATED_AT  PGQUEUE_TASK_DIES_AT (both RFC 3339, empty if unset)
//	PGQUEUE_TASK_HEADERS (a JSON object)  TRACEPARENT  TRACESTATE  BAGGAGE (from the headers, if present)
//
// For a pgqueue that the command runs, the environment has PGQUEUE_NAMESPACE. If the worker uses a server, it also
// has PGQUEUE_URL and PGQUEUE_PROTOCOL.
//
// The exit code is the outcome. The complete table is in exits.go:
//
//	0         done; standard output is the result: unchanged if it is JSON, else {"text": …}, nothing if empty
//	75        try later (EX_TEMPFAIL): failed, tried again after the queue's backoff while retries last
//	100       failed permanently, also with retries left
//	126, 127  a fault of the worker if the command itself is missing: handed back; else as 75
//	others    as 75; so does death by a signal
//
// Command.Kinds gives exit codes a kind of error. The outcome stays that of the table.
//
// A command that cannot start is a fault of the worker too.
//
// A failure is kept as {"error": …, "exit_code": …, "stderr": its end, "output": …}. Each line on standard error goes
// to the log of the task at once.
//
// When the context of the task ends (a cancel, its ttl, a lost lease, the end of the drain), the process group of the
// command gets SIGTERM, and SIGKILL if it still runs after KillAfter. The rest of the group is killed at the end of
// the command. Without process groups the process itself is killed at once.
package execrun
