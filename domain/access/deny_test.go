package access

import (
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestDenialNamesItsScope: a role may be there for another scope than the one that the right needs.
func TestDenialNamesItsScope(t *testing.T) {
	for want, err := range map[string]*queue.Error{
		`in "default/mail", got a credential without it; ask for a grant for this queue of one of the roles `:         deny(queue.ActionTaskWork, "default", "mail"),
		`in "default", got a credential without it; ask for a grant for the whole namespace of one of the roles `:     deny(queue.ActionTaskWork, "default", ""),
		`in the installation, got a credential without it; ask for a grant for the installation of one of the roles `: deny(queue.ActionAccessManage, "", ""),
	} {
		if !strings.Contains(err.Msg, want) {
			t.Errorf("got %q, want %q", err.Msg, want)
		}
	}
}
