package access

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Guarding configures a guard.
type Guarding struct {
	// Queues reads the queues of tasks. The guard calls it only for principals with grants for some queues.
	Queues TaskQueues
	// Confirm returns an error when the credential of p is no longer valid. The guard calls it every [ConfirmInterval] while a
	// call waits or streams; nil never ends such a call.
	Confirm func(ctx context.Context, p *Principal) error
	// ConfirmEvery is the time between two calls of Confirm; 0 = [ConfirmInterval].
	ConfirmEvery time.Duration
	// Audit records changes by operators and refusals; nil records nothing.
	Audit *AuditRecorder
}

// TaskQueues is the power of a store to read the queues of tasks.
type TaskQueues interface {
	// QueuesOfTasks returns the names of the queues of the tasks of namespace with ids, without their content. A task that
	// does not exist is absent.
	QueuesOfTasks(ctx context.Context, namespace string, ids []int64) (map[int64]string, error)
}

// ConfirmInterval is the time between two looks at the credential of an open stream or a waiting call.
const ConfirmInterval = 5 * time.Second

// Guard returns next with a decision before each operation. The principal of a call comes from its context; a call without
// one is KindUnauthenticated, a call without the right KindDenied. A task or ticker of a queue that the principal may not
// see is KindNotFound, as if it did not exist. Nothing can look behind the guard: it has no Unwrap.
//
// A principal with grants for whole namespaces costs one look-up of a map and no allocation. For a principal with grants
// for some queues each operation by id reads the queues of the tasks first.
func Guard(next queue.Service, g Guarding) queue.Service {
	decided := &guard{Service: queue.ObserveService(next, &checker{}), next: next, namespace: next.Namespace(), Guarding: g}
	if g.Audit == nil {
		return decided
	}
	return auditCalls(decided, g.Audit)
}

// guard decides about the operations with arguments beside the name of a queue. The embedded Service decides about
// all others by [checker], and refuses an operation that is not in its table.
type guard struct {
	queue.Service
	Guarding
	next      queue.Service
	namespace string
}

// checker decides about the operations that name at most one queue. Each other operation must have a method of guard.
type checker struct{}

// target says what Name of a [queue.Call] is.
type target uint8

const (
	targetUnknown   target = iota // refused here
	targetQueue                   // a queue
	targetNamespace               // the operation concerns the namespace as a whole
)

// targets is the table of the operations that checker decides.
var targets = [256]target{
	queue.OpCreateTask:       targetQueue,
	queue.OpGetQueue:         targetQueue,
	queue.OpDeleteQueue:      targetQueue,
	queue.OpCleanQueue:       targetQueue,
	queue.OpCleanQueueWithin: targetQueue,
	queue.OpListGroups:       targetQueue,
	queue.OpUnblockGroup:     targetQueue,
	queue.OpQueueStats:       targetQueue,
	queue.OpQueueHistory:     targetQueue,
	queue.OpListWorkers:      targetNamespace,
}

// Start decides about a call.
func (*checker) Start(ctx context.Context, call queue.Call) (context.Context, struct{}, error) {
	s, err := findScope(ctx, call.Op, call.Namespace)
	if err != nil {
		return ctx, struct{}{}, err
	}

	switch targets[call.Op] {
	case targetQueue:
		err = checkQueue(s, actionOf[call.Op], call.Namespace, call.Name)
	case targetNamespace:
		err = checkNamespace(s, actionOf[call.Op], call.Namespace)
	default:
		err = &queue.Error{Kind: queue.KindDenied, Subject: call.Op.String(), Msg: "has no rule of access; report this defect"}
	}
	return ctx, struct{}{}, err
}

// End changes nothing.
func (*checker) End(context.Context, queue.Call, struct{}, error) error { return nil }

// actionOf and bitOf have the action of each operation and its bit, so that a call looks up neither.
var actionOf, bitOf = indexActions()

func indexActions() (byOp [256]queue.Action, bits [256]actionSet) {
	for _, op := range queue.Ops() {
		byOp[op] = op.Operation().Action
		bits[op] = actionBits[byOp[op]]
	}
	return byOp, bits
}

// findScope returns where the principal of ctx may do op in namespace. It fails without a principal, and when the principal
// has the right nowhere.
func findScope(ctx context.Context, op queue.Op, namespace string) (Scope, error) {
	p := From(ctx)
	if p == nil {
		return Scope{}, errNoPrincipal
	}

	s := p.findScope(bitOf[op], namespace)
	if s.None() {
		return s, deny(actionOf[op], namespace, "")
	}
	return s, nil
}

// errNoPrincipal answers a call without a principal.
var errNoPrincipal = &queue.Error{Kind: queue.KindUnauthenticated, Msg: "must come with a valid credential, got none; send a token"}

// findActionScope is findScope for an action that is not that of the operation.
func findActionScope(ctx context.Context, action queue.Action, namespace string) (Scope, error) {
	p := From(ctx)
	if p == nil {
		return Scope{}, errNoPrincipal
	}

	s := p.Scope(action, namespace)
	if s.None() {
		return s, deny(action, namespace, anyQueue)
	}
	return s, nil
}

// checkQueue returns an error unless s has the queue called name. A name that breaks the rules of names is left to the
// operation, which refuses it.
func checkQueue(s Scope, action queue.Action, namespace, name string) error {
	if s.All() {
		return nil
	}
	if normal, err := queue.QueueName(name); err != nil || s.Has(normal) {
		return err
	}
	return deny(action, namespace, name)
}

// checkNamespace returns an error unless s is the whole namespace.
func checkNamespace(s Scope, action queue.Action, namespace string) error {
	if s.All() {
		return nil
	}
	return deny(action, namespace, "")
}

// anyQueue stands for the queues of an operation that a grant for these alone would allow too. No queue has this name.
const anyQueue = "*"

// deny returns the error of a missing right. It names the right and the roles that have it, and so the grant to ask for.
func deny(action queue.Action, namespace, name string) *queue.Error {
	var roles []string
	for _, role := range Roles() {
		if collectActions(role)&actionBits[action] != 0 {
			roles = append(roles, string(role))
		}
	}

	where, scope := fmt.Sprintf("%.130q", namespace), "the whole namespace"
	switch {
	case name == anyQueue && namespace != "":
		scope = "the whole namespace, or for the queue,"
	case name != "" && name != anyQueue:
		where, scope = fmt.Sprintf("%.130q", namespace+"/"+name), "this queue"
	case namespace == "":
		where, scope = "the installation", "the installation"
	}
	return &queue.Error{
		Kind: queue.KindDenied,
		Msg: fmt.Sprintf("must have the right %s in %s, got a credential without it; ask for a grant for %s of one of the roles %s",
			action, where, scope, strings.Join(roles, ", ")),
	}
}

func (g *guard) Namespace() string { return g.namespace }

func (g *guard) In(namespace string) (queue.Service, error) {
	next, err := g.next.In(namespace)
	if err != nil {
		return nil, err
	}
	return Guard(next, g.Guarding), nil
}

// ListNamespaces lists the namespaces in which the principal has a grant. It fails for a principal that has the right in none.
func (g *guard) ListNamespaces(ctx context.Context) ([]string, error) {
	p := From(ctx)
	switch {
	case p == nil:
		return nil, errNoPrincipal
	case !p.hasSomewhere(queue.ActionNamespaceList):
		return nil, deny(queue.ActionNamespaceList, g.namespace, "")
	}

	names, err := g.next.ListNamespaces(ctx)
	visible := names[:0:0]
	for _, name := range names {
		if !p.Scope(queue.ActionNamespaceList, name).None() {
			visible = append(visible, name)
		}
	}
	return visible, err
}

// scope returns where the principal of ctx may do the action of op.
func (g *guard) scope(ctx context.Context, op queue.Op) (Scope, error) {
	return findScope(ctx, op, g.namespace)
}

// watch returns a context that ends with KindUnauthenticated when the credential of the call is no longer valid. The caller
// calls stop at the end of its call.
func (g *guard) watch(ctx context.Context) (watched context.Context, stop func()) {
	if g.Confirm == nil {
		return ctx, func() {}
	}

	p := From(ctx)
	watched, cancel := context.WithCancelCause(ctx)
	var timer *time.Timer
	set := make(chan struct{}) // closed when timer is set
	every := cmp.Or(g.ConfirmEvery, ConfirmInterval)
	timer = time.AfterFunc(every, func() {
		// AfterFunc may run before the assignment of timer; set orders the two.
		<-set
		// A store that does not answer proves nothing about the credential: the next look does.
		if err := g.Confirm(watched, p); queue.KindOf(err) == queue.KindUnauthenticated {
			cancel(err)
		}
		if watched.Err() == nil { // an ended call needs no further look
			timer.Reset(every)
		}
	})
	close(set)

	return watched, func() {
		timer.Stop()
		cancel(nil)
	}
}

// Watch decides about a stream of s in which each message is an operation of its own, before its first message: op is the one
// that the stream is for. watched ends with KindUnauthenticated when the credential of the stream is no longer valid. The
// caller calls stop at the end of the stream, also after an error. A service without a guard allows each stream.
func Watch(ctx context.Context, s queue.Service, op queue.Op) (watched context.Context, stop func(), err error) {
	if g, ok := s.(interface {
		watchStream(ctx context.Context, op queue.Op) (context.Context, func(), error)
	}); ok {
		return g.watchStream(ctx, op)
	}
	return ctx, func() {}, nil
}

func (g *guard) watchStream(ctx context.Context, op queue.Op) (watched context.Context, stop func(), err error) {
	s, err := g.scope(ctx, op)
	if err == nil && op == queue.OpRunTickerLoop {
		err = checkNamespace(s, queue.ActionTickerListen, g.namespace)
	}
	if err != nil {
		return ctx, func() {}, err
	}
	watched, stop = g.watch(ctx)
	return watched, stop, nil
}

// endOf returns the error of a watched call: that of Confirm when it ended the call.
func endOf(watched context.Context, err error) error {
	if cause := context.Cause(watched); err != nil && queue.KindOf(cause) == queue.KindUnauthenticated {
		return cause
	}
	return err
}
