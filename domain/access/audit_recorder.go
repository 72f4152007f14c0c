package access

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// AuditTimeout bounds the write of one entry, beyond the deadline of the caller. A caller waits so long at
	// most when the database does not answer; its own operation has failed or waited before.
	AuditTimeout = 3 * time.Second
	// RefusalWindow is the time in which equal refusals make two entries: the first, and the number of the others.
	RefusalWindow = time.Minute
	// maxRefusals bounds the different refusals of a window. The others share one entry for each action.
	maxRefusals = 256
	// maxClaims bounds those of them without a valid credential. Each can claim to be another principal, and the audit keeps
	// its entries for a year.
	maxClaims = 16
	// maxOfPrincipal bounds those of one principal, which chooses the names of queues. Its others share one entry for each action.
	maxOfPrincipal = 16
	// flushTimeout bounds the writes of the refusals of one window.
	flushTimeout = 30 * time.Second
)

// AuditSettings configures an [AuditRecorder]. Log is required.
type AuditSettings struct {
	Log AuditLog
	// Logger gets one line with audit=true for each entry, also when Log fails; nil for none.
	Logger *slog.Logger
	// Failed is called for each entry that Log did not store; nil for none.
	Failed func(error)
	// Refused is called for each refusal, those too that share an entry, with the action that was asked for; "" before any
	// operation. The kind is KindUnauthenticated or KindDenied. nil for none.
	Refused func(a queue.Action, kind queue.Kind)
}

// AuditRecorder records calls into the audit. It writes an entry before the caller gets its answer: a queue in memory would
// lose the entry of a revocation when the server is killed a second later. It does not repeat a failed write, because the
// store itself repeats after passing faults, and the log line has all fields. A fault of the audit never fails the call.
//
// Refusals come in numbers that an attacker chooses. So the first of a principal, an operation and a queue is written at once,
// without a valid credential also the first of an address, and the others within [RefusalWindow] are counted in memory and written
// as one entry. A killed process loses that count.
//
// It is safe for concurrent use. The nil recorder records nothing.
type AuditRecorder struct {
	AuditSettings

	mu       sync.Mutex
	refusals map[refusalKey]*AuditEntry // nil between windows; Calls counts those after the first
	claims   int                        // elements of refusals without a valid credential
	others   map[string]int             // the other elements of refusals, by principal
	timer    *time.Timer                // ends the window
	flushes  sync.WaitGroup
	closed   bool
}

// refusalKey identifies equal refusals.
type refusalKey struct {
	principal string
	action    queue.Action
	outcome   string

	operation, namespace, queue string
	network                     netip.Prefix // of a caller without a valid credential; zero for others
}

// otherPrincipals is the id of the entry that counts the refusals beyond maxRefusals.
const otherPrincipals = "others"

// NewAuditRecorder returns a recorder. Close writes the refusals that it has counted.
func NewAuditRecorder(s AuditSettings) *AuditRecorder {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return &AuditRecorder{AuditSettings: s}
}

// Record records a call that ended with err: its principal and its caller come from ctx, all else from e.
func (r *AuditRecorder) Record(ctx context.Context, e AuditEntry, err error) {
	if r == nil {
		return
	}

	if p := From(ctx); p != nil {
		e.PrincipalID = p.ID
		e.PrincipalName = p.Name
		e.PrincipalKind = p.Kind
		e.Issuer = p.Issuer
		e.Subject = p.Subject
	}
	e.Caller = CallerFrom(ctx)
	e.Outcome = outcomeOf(err)
	e.Calls = 1
	e = e.Clean()

	if isRefusal(err) && r.Refused != nil {
		r.Refused(e.Action, queue.KindOf(err))
	}
	// A caller without any right may fail to sign in, to get a code, or to send one credential, in any way and any number.
	if (isRefusal(err) || err != nil && (e.Action == queue.ActionAccessSelf || e.Action == "")) && !r.startRefusal(e) {
		return
	}
	r.writeEntry(ctx, e)
}

// outcomeOf returns the outcome of a call that ended with err.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return AuditOK
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return string(queue.KindOf(queue.ContextError(err)))
	}
	return string(queue.KindOf(err))
}

// isRefusal reports whether err is the decision of access against a call.
func isRefusal(err error) bool {
	if err == nil {
		return false
	}
	kind := queue.KindOf(err)
	return kind == queue.KindDenied || kind == queue.KindUnauthenticated
}

// startRefusal reports whether e is the first of its window. It counts e otherwise.
func (r *AuditRecorder) startRefusal(e AuditEntry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	// No timer would write the count of a window that begins now.
	if r.closed {
		return true
	}
	if r.refusals == nil {
		r.refusals = map[refusalKey]*AuditEntry{}
		r.claims = 0
		r.others = map[string]int{}
		r.flushes.Add(1)
		r.timer = time.AfterFunc(RefusalWindow, func() {
			defer r.flushes.Done()
			r.flushRefusals(context.Background())
		})
	}

	key := refusalKey{
		principal: e.PrincipalID, action: e.Action, outcome: e.Outcome, operation: e.Operation, namespace: e.Namespace, queue: e.Queue,
	}
	isClaim := e.Outcome == string(queue.KindUnauthenticated) || e.PrincipalID == ""
	if isClaim {
		key.network = NetworkOf(e.Remote)
	} else if r.refusals[key] == nil && r.others[e.PrincipalID] >= maxOfPrincipal {
		key = refusalKey{principal: e.PrincipalID, action: e.Action, outcome: e.Outcome}
		e = withoutObject(e)
	}
	counted := r.refusals[key]
	if counted == nil && (len(r.refusals) >= maxRefusals || isClaim && r.claims >= maxClaims) {
		// The entry has no text of the caller, because it stands for many.
		e = AuditEntry{PrincipalID: otherPrincipals, Action: e.Action, Outcome: e.Outcome}
		key = refusalKey{principal: otherPrincipals, action: e.Action, outcome: e.Outcome}
		counted = r.refusals[key]
		if counted == nil { // the table of actions bounds these
			e.Calls = 1
			r.refusals[key] = &e
			return false
		}
	}

	if counted == nil {
		r.refusals[key] = &AuditEntry{}
		if isClaim {
			r.claims++
		} else {
			r.others[e.PrincipalID]++
		}
		return true
	}
	calls := counted.Calls + 1
	if calls == 1 {
		*counted = e
	}
	counted.Calls = calls
	return false
}

// withoutObject returns e as the entry of calls on many objects.
func withoutObject(e AuditEntry) AuditEntry {
	return AuditEntry{
		Caller: e.Caller, PrincipalID: e.PrincipalID, PrincipalName: e.PrincipalName, PrincipalKind: e.PrincipalKind,
		Issuer: e.Issuer, Subject: e.Subject, Action: e.Action, Outcome: e.Outcome, Calls: e.Calls,
	}
}

// flushRefusals ends the window and writes its counts.
func (r *AuditRecorder) flushRefusals(ctx context.Context) {
	r.mu.Lock()
	ended := r.refusals
	// The next refusal begins a window of its own, also while these are written.
	r.refusals = nil
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	for _, e := range ended {
		if e.Calls > 0 {
			r.writeEntry(ctx, *e)
		}
	}
}

// Close ends the window of refusals and writes its counts. Calls that end later are recorded without a window.
func (r *AuditRecorder) Close(ctx context.Context) {
	if r == nil {
		return
	}

	r.mu.Lock()
	r.closed = true
	// A timer that has fired writes by itself, and counts in flushes until it has.
	stopped := r.timer != nil && r.timer.Stop()
	r.mu.Unlock()

	if stopped {
		r.flushes.Done()
	}
	r.flushRefusals(ctx)
	r.flushes.Wait()
}

// Require is [Require] for requests outside of the operations, as for the metrics. It records a refusal; the nil recorder only
// decides.
func (r *AuditRecorder) Require(ctx context.Context, a queue.Action, namespace string) error {
	err := Require(ctx, a, namespace)
	if err != nil {
		r.Record(ctx, AuditEntry{Action: a, Namespace: namespace}, err)
	}
	return err
}

// List returns a page of the audit to a principal with the right to read it, and records a refusal. Only roles of the
// installation have that right: entries of one namespace show the principals of others.
func (r *AuditRecorder) List(ctx context.Context, f AuditFilter) (AuditPage, error) {
	if _, err := findActionScope(ctx, queue.ActionAuditRead, ""); err != nil {
		r.Record(ctx, AuditEntry{Action: queue.ActionAuditRead, Operation: "list_audit"}, err)
		return AuditPage{}, err
	}
	return r.Log.ListAudit(ctx, f)
}

// writeEntry logs and stores e, outside of the deadline of ctx.
func (r *AuditRecorder) writeEntry(ctx context.Context, e AuditEntry) {
	within := AuditTimeout
	if end, ok := ctx.Deadline(); ok && e.Calls > 1 {
		within = min(within, time.Until(end)) // that of the flush
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()

	r.Logger.LogAttrs(ctx, slog.LevelInfo, "audit entry", logAttrs(e)...)
	err := r.Log.RecordAudit(ctx, e)
	if err == nil {
		return
	}
	// The whole entry again: a log without lines of the level INFO would lose it.
	r.Logger.LogAttrs(ctx, slog.LevelError, "audit entry is in the log only; the store failed", append(logAttrs(e), slog.Any("err", err))...)
	if r.Failed != nil {
		r.Failed(err)
	}
}

// logAttrs returns the fields of e that are set.
func logAttrs(e AuditEntry) []slog.Attr {
	attrs := []slog.Attr{slog.Bool("audit", true)}
	for _, field := range []struct{ name, value string }{
		{"principal", e.PrincipalID},
		{"principal_name", e.PrincipalName},
		{"principal_kind", string(e.PrincipalKind)},
		{"issuer", e.Issuer},
		{"subject", e.Subject},
		{"request_id", e.RequestID},
		{"via", string(e.Via)},
		{"remote", e.Remote},
		{"action", string(e.Action)},
		{"operation", e.Operation},
		{"namespace", e.Namespace},
		{"queue", e.Queue},
		{"ticker", e.Ticker},
		{"token_id", e.Token},
		{"filter", e.Filter},
		{"outcome", e.Outcome},
		{"reason", e.Reason},
	} {
		if field.value != "" {
			attrs = append(attrs, slog.String(field.name, field.value))
		}
	}

	for _, field := range []struct {
		name  string
		value int64
	}{
		{"task", e.Task},
		{"ids", int64(e.IDs)},
		{"matched", e.Matched},
		{"moved", e.Moved},
		{"calls", int64(e.Calls)},
	} {
		if field.value != 0 {
			attrs = append(attrs, slog.Int64(field.name, field.value))
		}
	}
	if e.DryRun {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	for _, c := range e.Changes {
		attrs = append(attrs, slog.Group("changes", slog.Group(c.Field, slog.String("old", c.Old), slog.String("new", c.New))))
	}
	return attrs
}
