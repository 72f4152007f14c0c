package queues

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// defineFailureFlags defines the flags of a queue's failure policy.
func defineFailureFlags(cmd *cobra.Command, m *queue.FailurePolicyMeta) {
	fs := cmd.Flags()
	cmdutil.MaybeInt(fs, &m.MaxLeaseLosses, "max-lease-losses", "lost leases in a row that end a task as quarantined; 0 = a lost lease costs a retry")
	cmdutil.MaybeFunc(fs, &m.DeadLetter, "dead-letter", "queue that gets a task for each one that fails for good; - = none", readDeadLetter)
	cmdutil.MaybeTexts(fs, &m.NonRetryable, "non-retryable", "kinds of errors that end a task, as invalid_input,gone; none = every kind is retried")
}

// readDeadLetter reads the name of a queue. No queue is called "-".
func readDeadLetter(s string) (string, error) {
	if s == "-" {
		return "", nil
	}
	return s, nil
}

// describeFailurePolicy names the settings of a failure policy that do something; "-" without any.
func describeFailurePolicy(q restapi.Queue) string {
	var parts []string
	if q.MaxLeaseLosses > 0 {
		parts = append(parts, fmt.Sprintf("quarantine after %d lost leases", q.MaxLeaseLosses))
	}
	if len(q.NonRetryable) > 0 {
		parts = append(parts, fmt.Sprintf("no retry of %s", output.Clean(strings.Join(q.NonRetryable, ", "))))
	}
	if q.DeadLetter != "" {
		parts = append(parts, "dead letters to "+q.DeadLetter)
	}
	return output.Dash(strings.Join(parts, "; "))
}
