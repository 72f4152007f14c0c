package run

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

// limits are the rows of docs/limits.md.
var limits = []struct {
	what  string
	value any // a time.Duration, or an int of bytes or elements
	name  string
}{
	{"a payload, or a result, by default", queue.DefaultMaxPayloadBytes, "queue.DefaultMaxPayloadBytes"},
	{"tasks of one create, retain, release or heartbeat", queue.MaxBatch, "queue.MaxBatch"},
	{"elements of a page", queue.MaxPage, "queue.MaxPage"},
	{"bytes of a page; the first element always comes", queue.MaxPageBytes, "queue.MaxPageBytes"},
	{"bytes of a list without pages: workers, tokens, sessions", queue.MaxListBytes, "queue.MaxListBytes"},
	{"failed tasks that a call groups", queue.MaxFailures, "queue.MaxFailures"},
	{"groups of failed tasks of an answer", queue.MaxFailureGroups, "queue.MaxFailureGroups"},
	{"bytes of a text to search in payloads", queue.MaxFilterTextBytes, "queue.MaxFilterTextBytes"},
	{"tasks that a call searches for a text", queue.MaxTextExamined, "queue.MaxTextExamined"},
	{"the search of a call for a text", queue.MaxTextTime, "queue.MaxTextTime"},
	{"tasks of a call of a bulk operation with `limit`", queue.MaxSelection, "queue.MaxSelection"},
	{"bytes of a retain without `max_bytes`; the first task always comes", queue.DefaultRetainBytes, "queue.DefaultRetainBytes"},
	{"largest `max_bytes` of a retain", queue.MaxRetainBytes, "queue.MaxRetainBytes"},
	{"bytes of a retain's request id", queue.MaxRequestIDBytes, "queue.MaxRequestIDBytes"},
	{"bytes of the group of a task", queue.MaxGroupBytes, "queue.MaxGroupBytes"},
	{"bytes of the kind of an error", queue.MaxErrorKindBytes, "queue.MaxErrorKindBytes"},
	{"kinds of errors that a queue does not retry", queue.MaxNonRetryable, "queue.MaxNonRetryable"},
	{"lost leases in a row that a queue may allow", queue.MaxLeaseLossesLimit, "queue.MaxLeaseLossesLimit"},
	{"bytes of the fingerprint that a worker gives to a failure", queue.MaxFingerprintBytes, "queue.MaxFingerprintBytes"},
	{"tasks of a group that its concurrency may allow", queue.MaxGroupConcurrency, "queue.MaxGroupConcurrency"},
	{"groups of a queue with settings of their own", queue.MaxGroupPolicies, "queue.MaxGroupPolicies"},
	{"groups of a queue that are paused, with those above", queue.MaxGroupPauses, "queue.MaxGroupPauses"},
	{"all large answers of a server at the same time", queue.DefaultLargeBytes, "queue.DefaultLargeBytes"},
	{"all large bodies of requests at the same time", queue.DefaultBodyBytes, "queue.DefaultBodyBytes"},
	{"an answer or a body that does not count as large", queue.SmallAnswerBytes, "queue.SmallAnswerBytes"},
	{"a row of settings or counts, as it counts for a large answer", queue.RowBytes, "queue.RowBytes"},
	{"a message to the Connect and gRPC server", connectserver.DefaultMaxMessageBytes, "connectserver.DefaultMaxMessageBytes"},
	{"a message to the Connect and gRPC client", connectclient.DefaultMaxMessageBytes, "connectclient.DefaultMaxMessageBytes"},
	{"the body of many tasks over REST", restserver.DefaultMaxBatchBytes, "restserver.DefaultMaxBatchBytes"},
	{"an answer to the REST client, without compression", restclient.DefaultMaxAnswerBytes, "restclient.DefaultMaxAnswerBytes"},
	{"a step of a bulk operation or a clean", queue.BulkStep, "queue.BulkStep"},
	{"the wait of a large answer or body for its share of that budget", queue.BudgetTimeout, "queue.BudgetTimeout"},
	{"the hand-back of tasks that were not delivered", queue.HandBackTimeout, "queue.HandBackTimeout"},
	{"a call to the database", postgres.DefaultCallTimeout, "postgres.DefaultCallTimeout"},
	{"a call of the manager", manager.DefaultCallTimeout, "manager.DefaultCallTimeout"},
	{"the wait of a retain or an await", queue.MaxWait, "queue.MaxWait"},
	{"each 64 KiB of a request's body over REST, and its last part", restserver.DefaultBodyTimeout, "restserver.DefaultBodyTimeout"},
	{"each 64 KiB of an answer over REST, and an event of a stream", restserver.DefaultWriteTimeout, "restserver.DefaultWriteTimeout"},
	{"each 64 KiB of a message over Connect, either way", connectserver.DefaultSendTimeout, "connectserver.DefaultSendTimeout"},
	{"a call over Connect without a deadline, plus its wait", connectserver.DefaultCallTimeout, "connectserver.DefaultCallTimeout"},
	{"the first byte of an answer at the REST client, and each 64 KiB", restclient.DefaultTimeout, "restclient.DefaultTimeout"},
	{"a call of the Connect client without a deadline, plus its wait", connectclient.DefaultTimeout, "connectclient.DefaultTimeout"},
}

func TestLimitsAreDocumented(t *testing.T) {
	var table strings.Builder
	for _, l := range limits {
		fmt.Fprintf(&table, "| %s | %s | `%s` |\n", l.what, limitText(l.value), l.name)
	}
	doc, err := os.ReadFile("../../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), table.String()) {
		t.Errorf("docs/limits.md is not what the code says; its table must be:\n%s", table.String())
	}
}

func limitText(v any) string {
	n, ok := v.(int)
	switch {
	case !ok:
		return fmt.Sprint(v)
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprint(n)
}

func TestInnerLimitsAreBelowOuterOnes(t *testing.T) {
	for _, c := range []struct {
		inner string
		in    time.Duration
		outer string
		out   time.Duration
	}{
		{"two steps of a bulk operation", 2 * queue.BulkStep, "a call to the database", postgres.DefaultCallTimeout},
		{"two steps of a bulk operation", 2 * queue.BulkStep, "a call of the REST client", restclient.DefaultTimeout},
		{"two steps of a bulk operation", 2 * queue.BulkStep, "a call of the Connect client", connectclient.DefaultTimeout},
		{"a large body's wait", queue.BudgetTimeout, "a request's body over REST", restserver.DefaultBodyTimeout},
		{"a large body's wait", queue.BudgetTimeout, "a message over Connect", connectserver.DefaultSendTimeout},
		{"a large answer's wait", queue.BudgetTimeout, "a call of the REST client", restclient.DefaultTimeout},
		{"a large answer's wait", queue.BudgetTimeout, "a call of the Connect client", connectclient.DefaultTimeout},
		{"a call to the database", postgres.DefaultCallTimeout, "a call of the manager", manager.DefaultCallTimeout},
		{"a call of the manager", manager.DefaultCallTimeout, "a call over Connect", connectserver.DefaultCallTimeout},
		{"a call of the manager", manager.DefaultCallTimeout, "a request over REST", restserver.DefaultBodyTimeout + restserver.DefaultWriteTimeout},
	} {
		if c.in > c.out {
			t.Errorf("%s may take %v, %s %v", c.inner, c.in, c.outer, c.out)
		}
	}

	const grpc = 4 << 20 // the default message limit of a gRPC client
	largest := 2*queue.DefaultMaxPayloadBytes + queue.MaxProgressBytes + queue.MaxHeadersBytes + queue.MaxErrors*queue.MaxErrorBytes
	for what, n := range map[string]int{
		"a page, with what JSON's base64 or a framing adds": queue.MaxPageBytes + queue.MaxPageBytes/4,
		"the largest task": largest,
		"a retain that does not say, with what JSON's base64 adds": queue.DefaultRetainBytes + queue.DefaultRetainBytes/3,
	} {
		if n > grpc {
			t.Errorf("%s has %d bytes, a gRPC client takes %d", what, n, grpc)
		}
	}
	if largest > queue.MaxPageBytes {
		t.Errorf("the largest task has %d bytes, a page %d", largest, queue.MaxPageBytes)
	}
	if queue.MaxRetainBytes > queue.DefaultLargeBytes/4 || queue.MaxRetainBytes > connectserver.DefaultMaxMessageBytes {
		t.Errorf("a retain may ask for %d bytes, four such answers or a message have less", queue.MaxRetainBytes)
	}
	if 2*connectserver.DefaultMaxMessageBytes > connectclient.DefaultMaxMessageBytes {
		t.Error("the Connect server may send more than its client takes")
	}
}

func TestPayloadLimitReachesEveryTransport(t *testing.T) {
	for _, payload := range []int{queue.DefaultMaxPayloadBytes, 100 << 20} {
		body, batch, message := messageLimits(payload)
		if body <= int64(payload) || batch < body || message <= payload {
			t.Errorf("payloads of %d: a body has %d, a batch %d, a message %d", payload, body, batch, message)
		}
	}
}
