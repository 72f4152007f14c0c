package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxNamedTokens bounds the tokens that a finding names.
const maxNamedTokens = 5

// tokens warns before tokens expire.
func (d *diagnosis) tokens(ctx context.Context) error {
	const name = "tokens"
	all, err := d.Tokens(ctx)
	if err != nil {
		return d.reportUnknown(name, err)
	}

	expiring := access.Expiring(all)
	if len(expiring) == 0 {
		d.report(name, queue.LevelOK, fmt.Sprintf("none expires within %dd", int(access.ExpiryWarning.Hours()/24)), "")
		return nil
	}
	named := make([]string, 0, maxNamedTokens)
	for _, t := range expiring[:min(len(expiring), maxNamedTokens)] {
		named = append(named, t.ID+" on "+t.ExpiresAt.Format(time.DateOnly))
	}
	d.report(name, queue.LevelWarn, fmt.Sprintf("%d expire within %dd: %s", len(expiring), int(access.ExpiryWarning.Hours()/24), strings.Join(named, ", ")),
		"callers with these tokens will be refused; give them a new one: pgqueue rotate-token ID")
	return nil
}
