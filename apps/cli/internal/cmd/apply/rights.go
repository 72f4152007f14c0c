package apply

import (
	"context"
	"fmt"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// right is what the server asks of the caller before it makes a change.
type right struct {
	action queue.Action
	queue  string // "" = the namespace as a whole
}

// checkRights asks the server for the rights of all changes, so that none is made by a caller that may not make another one.
func checkRights(ctx context.Context, admin access.Admin, plan []change) error {
	asked := map[access.Question]bool{}
	for _, c := range plan {
		for _, r := range c.rights {
			of := access.Question{Action: r.action, Namespace: c.Namespace, Queue: r.queue}
			if asked[of] {
				continue
			}
			asked[of] = true
			allowed, err := admin.Can(ctx, of)
			if err != nil {
				return err
			}
			if !allowed {
				return &queue.Error{
					Op: "apply", Kind: queue.KindDenied, Subject: fmt.Sprintf("%s %s", c.Kind, c.Name),
					Msg: fmt.Sprintf("must be a change with the right %s in %s, got a caller without it; nothing was changed", r.action, describeQueue(of)),
				}
			}
		}
	}
	return nil
}

func describeQueue(of access.Question) string {
	if of.Queue == "" {
		return "the namespace " + of.Namespace
	}
	return "the queue " + of.Namespace + "/" + of.Queue
}

// rightsOfQueue returns the rights of a change of a queue. Each failure creates a task in the dead letter queue.
func rightsOfQueue(action queue.Action, name, deadLetter string) []right {
	rights := []right{{action, name}}
	if deadLetter != "" {
		rights = append(rights, right{queue.ActionTaskCreate, deadLetter})
	}
	return rights
}

// rightsOfTicker returns the rights of a change of a ticker that fires into queues: the former one and the next.
func rightsOfTicker(queues ...string) (rights []right) {
	for _, name := range queues {
		rights = append(rights, right{queue.ActionTickerManage, name}, right{queue.ActionTaskCreate, name})
	}
	return rights
}

// isOnly reports whether a change is of one field alone.
func isOnly(fields []fieldChange, name string) bool {
	return len(fields) == 1 && fields[0].Field == name
}
