package run

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// rightsBeyond are the rights that requests need which are not operations, or that depend on the content of an operation.
var rightsBeyond = map[queue.Action]string{
	queue.ActionTaskPayload: "payloads, results, headers, progress, error texts, kinds of errors and fingerprints in answers",
	queue.ActionQueuePause:  "`update_queue` and `update_ticker` that change `paused` alone",
	queue.ActionTaskResult:  "`get_task`",
	queue.ActionTaskOperate: "`update_group` that changes `paused_until` alone",
	queue.ActionSystemRead:  "metrics, `/readyz?verbose`",
}

// TestActionsAreDocumented: the page about security lists each action with its operations and its roles, as the code has them.
func TestActionsAreDocumented(t *testing.T) {
	var table strings.Builder
	for _, action := range access.Actions() {
		var calls, roles []string
		for _, op := range queue.Ops() {
			if o := op.Operation(); o.Action == action && o.Role != "" && o.Role != "Store" {
				calls = append(calls, "`"+op.Label()+"`")
			}
		}
		if beyond := rightsBeyond[action]; beyond != "" {
			calls = append(calls, beyond)
		}
		for _, role := range access.Roles() {
			if access.NewPrincipal("", "", access.KindToken, []access.Grant{{Role: role, Namespace: "*"}}).May(action, "", "") {
				roles = append(roles, string(role))
			}
		}
		if len(calls) == 0 || len(roles) == 0 {
			t.Errorf("%s has the calls %v and the roles %v; each action needs both", action, calls, roles)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", action, strings.Join(calls, ", "), strings.Join(roles, ", "))
	}

	doc, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), table.String()) {
		t.Errorf("docs/security.md is not what the code says; its table of actions must be:\n%s", table.String())
	}
}
