package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The actions of a change.
const (
	actionCreate = "create"
	actionUpdate = "update"
	actionDelete = "delete"
	actionNone   = "unchanged"
	actionKept   = "kept" // a deletion that the server refused, because the queue is in use by now
)

// change is what the file asks of one queue or ticker.
type change struct {
	Namespace string        `json:"namespace"`
	Kind      string        `json:"kind"` // queue, group or ticker
	Name      string        `json:"name"` // QUEUE/GROUP of a group
	Action    string        `json:"action"`
	Fields    []fieldChange `json:"fields,omitempty"`
	Reason    string        `json:"reason,omitempty"` // of a queue that was kept

	rights []right
	do     func(context.Context) error
}

// applyPlan makes the changes in their order until one fails. A queue to delete that something uses by now is kept, with the reason.
func applyPlan(ctx context.Context, plan []change) error {
	for i := range plan {
		c := &plan[i]
		if c.do == nil {
			continue
		}
		err := c.do(ctx)
		if err != nil && c.Action == actionDelete && c.Kind == "queue" && isInUse(err) {
			c.Action, c.Reason, c.do = actionKept, err.Error(), nil
			continue
		}
		if err != nil {
			return fmt.Errorf("%s %s %s, after %s: %w", c.Action, c.Kind, c.Name, countDone(plan[:i]), err)
		}
	}
	return nil
}

// isInUse reports whether err refuses to delete a queue because of its tasks, its dead letters or an open transaction.
func isInUse(err error) bool {
	e, ok := errors.AsType[*queue.Error](err)
	return ok && (e.Kind == queue.KindConflict || e.Kind == queue.KindUnavailable && e.Field == "if_empty")
}

// findKept returns the error of the first queue that was kept; nil without one.
func findKept(plan []change) error {
	for _, c := range plan {
		if c.Action == actionKept {
			return &queue.Error{
				Op: "prune", Kind: queue.KindConflict, Subject: "queue " + c.Name,
				Msg: "was kept, the other changes are made: " + c.Reason + "; run the command again then",
			}
		}
	}
	return nil
}

// fieldChange is a field with another value.
type fieldChange struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// planChanges compares the definitions with the server. It changes nothing. The changes are in an order in which each can be
// made: queues come before the tickers that use them, and leave after them.
func planChanges(ctx context.Context, root queue.Service, all []definition, prune bool, now time.Time) ([]change, error) {
	var plan []change
	for _, d := range all {
		svc, err := root.In(d.namespace)
		if err != nil {
			return nil, err
		}
		some, err := planNamespace(ctx, svc, d, prune, now)
		if err != nil {
			return nil, err
		}
		plan = append(plan, some...)
	}
	return plan, nil
}

func planNamespace(ctx context.Context, svc queue.Service, d definition, prune bool, now time.Time) ([]change, error) {
	queues, _, err := cmdutil.All(queue.Page{}, func(p queue.Page) ([]*queue.Queue, int64, error) {
		page, err := svc.ListQueues(ctx, p)
		return page.Queues, page.Count, err
	})
	if err != nil {
		return nil, err
	}
	tickers, err := listTickers(ctx, svc)
	if err != nil {
		return nil, err
	}

	remains := func(name string) bool {
		return d.hasQueue(name) || !(prune && d.named["queues"]) && slices.ContainsFunc(queues, func(q *queue.Queue) bool { return q.Name == name })
	}
	if err := checkTickerQueues(d, remains); err != nil {
		return nil, err
	}
	if err := checkTargets(d, queues, remains); err != nil {
		return nil, err
	}

	plan := planQueues(svc, d.queues, queues)
	for _, q := range d.queues {
		groups, named := d.groups[q.name]
		if !named {
			continue
		}
		exists := slices.ContainsFunc(queues, func(other *queue.Queue) bool { return other.Name == q.name })
		some, err := planGroups(ctx, svc, q, groups, exists, prune, now)
		if err != nil {
			return nil, err
		}
		plan = append(plan, some...)
	}
	plan = append(plan, planTickers(svc, d.tickers, tickers)...)
	if !prune {
		return plan, nil
	}

	deletions, err := planDeletions(ctx, svc, d, queues, tickers)
	return append(plan, deletions...), err
}

// hasQueue reports whether the file defines a queue of this name.
func (d *definition) hasQueue(name string) bool {
	return slices.ContainsFunc(d.queues, func(q defined[queue.Queue]) bool { return q.name == name })
}

// checkTickerQueues refuses a ticker that fires into a queue that is not there after the changes.
func checkTickerQueues(d definition, remains func(name string) bool) error {
	for _, t := range d.tickers {
		if t.want.Queue != "" && !remains(t.want.Queue) {
			return t.at.fault(fmt.Sprintf("queue: must be one of the file or of the namespace, got %.64q; define it, or correct the name", t.want.Queue))
		}
	}
	return nil
}

// planDeletions returns the deletions of the queues and tickers that the file leaves out. Tickers leave before their queues, and a
// queue before the dead letter queue that it names: the server refuses another order.
func planDeletions(ctx context.Context, svc queue.Service, d definition, queues []*queue.Queue, tickers []*queue.Ticker) ([]change, error) {
	var plan []change
	for _, t := range tickers {
		if d.named["tickers"] && !slices.ContainsFunc(d.tickers, func(other defined[queue.Ticker]) bool { return other.name == t.Name }) {
			plan = append(plan, change{t.Namespace, "ticker", t.Name, actionDelete, nil, "", []right{{queue.ActionTickerManage, t.Queue}}, func(ctx context.Context) error {
				_, err := svc.DeleteTicker(ctx, t.Name, queue.IfVersion(t.Version))
				return err
			}})
		}
	}
	// Backwards through the order of creates: the source of dead letters goes before their target.
	targets := orderTargets(queues, func(q *queue.Queue) (string, string) { return q.Name, q.DeadLetter })
	for _, q := range slices.Backward(targets) {
		if d.hasQueue(q.Name) || !d.named["queues"] {
			continue
		}
		if err := checkEmpty(ctx, svc, q); err != nil {
			return nil, err
		}
		// A file that names no tickers leaves all of them.
		if i := slices.IndexFunc(tickers, func(t *queue.Ticker) bool { return t.Queue == q.Name }); i >= 0 && !d.named["tickers"] {
			return nil, &queue.Error{
				Op: "prune", Kind: queue.KindConflict, Subject: "queue " + q.Name,
				Msg: fmt.Sprintf("must have no tickers, got %.64q; name the tickers in the file too, or delete it", tickers[i].Name),
			}
		}
		plan = append(plan, change{q.Namespace, "queue", q.Name, actionDelete, nil, "", rightsOfQueue(queue.ActionQueueManage, q.Name, ""), func(ctx context.Context) error {
			// A create may have come since the check.
			_, err := svc.DeleteQueue(ctx, q.Name, queue.IfVersion(q.Version), queue.IfEmpty(true))
			return err
		}})
	}
	return plan, nil
}

// checkTargets refuses a dead letter queue that is not there, or leads in a circle, after the changes. remains reports whether a queue
// is there then. The server would refuse it too, after it has made other changes of the file.
func checkTargets(d definition, present []*queue.Queue, remains func(name string) bool) error {
	after := map[string]*queue.Queue{}
	for _, q := range present {
		if remains(q.Name) {
			after[q.Name] = q
		}
	}
	for i := range d.queues {
		q := &d.queues[i]
		want := q.want
		if former := after[q.name]; former != nil && !q.given["dead_letter"] {
			want.DeadLetter = former.DeadLetter
		}
		want.Name = q.name
		after[q.name] = &want
	}

	find := func(name string) (*queue.Queue, error) {
		if q := after[name]; q != nil {
			return q, nil
		}
		return nil, queue.NotFoundQueue(name)
	}
	for i := range d.queues {
		if err := after[d.queues[i].name].CheckDeadLetter(find); err != nil {
			return d.queues[i].at.locate(err)
		}
	}
	return nil
}

// listTickers lists all tickers of the namespace.
func listTickers(ctx context.Context, svc queue.Service) (all []*queue.Ticker, err error) {
	p := queue.Page{Limit: queue.MaxPage}
	for {
		page, err := svc.ListTickers(ctx, p)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Tickers...)
		if page.Next == "" {
			return all, nil
		}
		p.Cursor = page.Next
	}
}

// checkEmpty refuses to delete a queue with unfinished tasks, which would go with it.
func checkEmpty(ctx context.Context, svc queue.Service, q *queue.Queue) error {
	stats, err := svc.QueueStats(ctx, q.Name)
	if err != nil {
		return err
	}
	var unfinished int64
	for status, n := range stats.Counts {
		if !status.Finished() {
			unfinished += n
		}
	}
	if unfinished == 0 {
		return nil
	}
	return &queue.Error{
		Op: "prune", Kind: queue.KindConflict, Subject: "queue " + q.Name,
		Msg: fmt.Sprintf("must have no unfinished tasks, got %d; work them off, or run: pgqueue delete-queue %s", unfinished, q.Name),
	}
}

func planQueues(svc queue.Service, all []defined[queue.Queue], present []*queue.Queue) []change {
	var plan []change
	all = orderTargets(all, func(d defined[queue.Queue]) (string, string) { return d.name, d.want.DeadLetter })
	for _, d := range all {
		i := slices.IndexFunc(present, func(q *queue.Queue) bool { return q.Name == d.name })
		if i < 0 {
			meta := queue.QueueMeta{Name: d.name}
			copyFields(queueFields, &meta, &d.want, func(string) bool { return true })
			rights := rightsOfQueue(queue.ActionQueueManage, d.name, d.want.DeadLetter)
			plan = append(plan, change{d.want.Namespace, "queue", d.name, actionCreate, nil, "", rights, func(ctx context.Context) error {
				_, err := svc.CreateQueue(ctx, meta)
				return err
			}})
			continue
		}

		fields := compareFields(queueFields, present[i], &d.want, d.given)
		meta := queue.QueueMeta{IfVersion: present[i].Version}
		copyFields(queueFields, &meta, &d.want, isChanged(fields))
		action, deadLetter := queue.ActionQueueManage, ""
		if isOnly(fields, pausedField) {
			action = queue.ActionQueuePause
		}
		if meta.DeadLetter != nil {
			deadLetter = *meta.DeadLetter
		}
		plan = append(plan, newUpdate(d.want.Namespace, "queue", d.name, fields, rightsOfQueue(action, d.name, deadLetter), func(ctx context.Context) error {
			_, err := svc.UpdateQueue(ctx, d.name, meta)
			return err
		}))
	}
	return plan
}

// orderTargets returns all with each dead letter queue before those that send to it, else in their order. of returns the name of an
// element and that of its dead letter queue. A circle stays in its order: the server refuses it.
func orderTargets[T any](all []T, of func(T) (name, target string)) []T {
	out := make([]T, 0, len(all))
	seen := map[string]bool{}
	var add func(i int)
	add = func(i int) {
		name, target := of(all[i])
		if seen[name] {
			return
		}
		seen[name] = true
		for j := range all {
			if other, _ := of(all[j]); target != "" && other == target {
				add(j)
			}
		}
		out = append(out, all[i])
	}
	for i := range all {
		add(i)
	}
	return out
}

// planGroups compares the groups of a queue that names them. With prune the settings of its other groups go.
func planGroups(
	ctx context.Context, svc queue.Service, q defined[queue.Queue], all []defined[queue.GroupPolicy], exists, prune bool, now time.Time,
) ([]change, error) {
	present := map[string]queue.GroupPolicy{}
	if exists {
		for query := (queue.GroupQuery{Limit: queue.MaxPage}); ; {
			page, err := svc.ListGroups(ctx, q.name, query)
			if err != nil {
				return nil, err
			}
			for _, g := range page.Groups {
				present[g.Name] = g.GroupPolicy
			}
			if query.Cursor = page.Next; query.Cursor == "" {
				break
			}
		}
	}
	if prune {
		for _, name := range slices.Sorted(maps.Keys(present)) {
			if !slices.ContainsFunc(all, func(g defined[queue.GroupPolicy]) bool { return g.name == name }) {
				all = append(all, defined[queue.GroupPolicy]{name: name})
			}
		}
	}

	plan := make([]change, 0, len(all))
	for _, g := range all {
		is := withDefaults(present[g.name], now)
		want := withDefaults(g.want, now)
		fields := compareFields(groupFields, &is, &want, g.given)
		var meta queue.GroupMeta
		copyFields(groupFields, &meta, &want, isChanged(fields))
		action := queue.ActionQueueManage
		if isOnly(fields, pausedUntilField) {
			action = queue.ActionTaskOperate
		}
		plan = append(plan, newUpdate(q.want.Namespace, "group", q.name+"/"+g.name, fields, []right{{action, q.name}}, func(ctx context.Context) error {
			_, err := svc.UpdateGroup(ctx, q.name, g.name, meta)
			return err
		}))
	}
	return plan, nil
}

// withDefaults writes out the values that unset settings have. A pause that is over is none.
func withDefaults(p queue.GroupPolicy, now time.Time) queue.GroupPolicy {
	p.Weight = max(p.Weight, 1)
	p.RatePeriod = cmp.Or(p.RatePeriod, queue.DefaultRatePeriod)
	if !now.Before(p.PausedUntil) {
		p.PausedUntil = time.Time{}
	}
	return p
}

func planTickers(svc queue.Service, all []defined[queue.Ticker], present []*queue.Ticker) []change {
	var plan []change
	for _, d := range all {
		i := slices.IndexFunc(present, func(t *queue.Ticker) bool { return t.Name == d.name })
		if i < 0 {
			meta := queue.TickerMeta{Name: d.name}
			copyFields(tickerFields, &meta, &d.want, func(string) bool { return true })
			plan = append(plan, change{d.want.Namespace, "ticker", d.name, actionCreate, nil, "", rightsOfTicker(d.want.Queue), func(ctx context.Context) error {
				_, err := svc.CreateTicker(ctx, meta)
				return err
			}})
			continue
		}

		// An update names the changed fields alone, because a schedule that it names begins anew.
		fields := compareFields(tickerFields, present[i], &d.want, d.given)
		meta := queue.TickerMeta{IfVersion: present[i].Version}
		copyFields(tickerFields, &meta, &d.want, isChanged(fields))
		rights := rightsOfTicker(present[i].Queue)
		if isOnly(fields, pausedField) {
			rights = []right{{queue.ActionQueuePause, present[i].Queue}}
		}
		if meta.Queue != nil {
			rights = append(rights, rightsOfTicker(*meta.Queue)...)
		}
		plan = append(plan, newUpdate(d.want.Namespace, "ticker", d.name, fields, rights, func(ctx context.Context) error {
			_, err := svc.UpdateTicker(ctx, d.name, meta)
			return err
		}))
	}
	return plan
}

// newUpdate returns the change of something that exists.
func newUpdate(namespace, kind, name string, fields []fieldChange, rights []right, do func(context.Context) error) change {
	if len(fields) == 0 {
		return change{namespace, kind, name, actionNone, nil, "", nil, nil}
	}
	return change{namespace, kind, name, actionUpdate, fields, "", rights, do}
}

// compareFields returns the fields with another value than the file wants. A field that the file leaves out gets its
// default, except a pause, which stays as it is.
func compareFields[M, V any](fields []field[M, V], is, want *V, given map[string]bool) []fieldChange {
	var out []fieldChange
	for _, f := range fields {
		if (f.name == pausedField || f.name == pausedUntilField) && !given[f.name] {
			continue
		}
		if from, to := f.show(is), f.show(want); from != to {
			out = append(out, fieldChange{f.name, from, to})
		}
	}
	return out
}

// copyFields copies the chosen fields of v to the input of a create or an update.
func copyFields[M, V any](fields []field[M, V], to *M, v *V, chosen func(string) bool) {
	for _, f := range fields {
		if chosen(f.name) {
			f.copyTo(to, v)
		}
	}
}

func isChanged(fields []fieldChange) func(string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(fields, func(c fieldChange) bool { return c.Field == name })
	}
}
