package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultLargeBytes bounds the large answers that a server makes at the same time: 32 MiB. Each byte of an answer takes
	// about five of memory on its way from the database to the connection.
	DefaultLargeBytes = 32 << 20
	// DefaultBodyBytes bounds the large bodies of requests that a server reads or works on at the same time: 32 MiB. A
	// body above that takes all of them.
	DefaultBodyBytes = 32 << 20
	// SmallAnswerBytes is up to where an answer or a body is small, and takes nothing of a Budget.
	SmallAnswerBytes = 64 << 10
	// RowBytes is about what a row of a list takes that has no text of callers but names of queues and tickers: settings or counts.
	RowBytes = 1 << 10
	// BudgetTimeout is how long an answer or a body may wait for its bytes.
	BudgetTimeout = 10 * time.Second
)

// Budget bounds the bytes of large answers that are made at the same time, or of large bodies, in the order in which they
// were asked for. It is safe for concurrent use; nil bounds nothing.
type Budget struct {
	most int
	full string // the message of the error when bytes do not become free in time

	mu     sync.Mutex
	free   int
	read   int      // bytes of claims that wait and are in memory already
	claims []*claim // that wait, the oldest first
}

type claim struct {
	bytes   int
	read    bool
	granted chan struct{}
}

// NewBudget is a budget of so many bytes for answers.
func NewBudget(bytes int) *Budget {
	return &Budget{most: bytes, free: bytes, full: "the server is making many large answers; try again, or ask for fewer bytes"}
}

// NewBodyBudget is a budget of so many bytes for bodies of requests. A call that has bytes of it may wait for bytes of a budget
// for answers, never the other way round, so that calls do not wait for one another in a circle.
func NewBodyBudget(bytes int) *Budget {
	return &Budget{most: bytes, free: bytes, full: "the server is reading many large requests; try again, or send fewer bytes"}
}

// BodyClaim is what one request has of a budget for bodies. The zero value has nothing. It is not safe for concurrent use.
type BodyClaim struct {
	bytes int
	gives []func()
}

// Cover takes bytes of b until the claim has at least so many, or all of b. A small body takes nothing. Beyond the first bytes
// it takes at least as many as it has, so that a body of unknown length takes few times. It fails as [Budget.Take] does.
func (c *BodyClaim) Cover(ctx context.Context, b *Budget, bytes int) error {
	return c.coverBytes(ctx, b, bytes, false)
}

// CoverRead is Cover for a body that is in memory already, as a message that was compressed. It fails as [Budget.TakeRead] does.
func (c *BodyClaim) CoverRead(ctx context.Context, b *Budget, bytes int) error {
	return c.coverBytes(ctx, b, bytes, true)
}

func (c *BodyClaim) coverBytes(ctx context.Context, b *Budget, bytes int, read bool) error {
	if b == nil || bytes <= SmallAnswerBytes || bytes <= c.bytes || c.bytes >= b.most {
		return nil
	}

	// A body of unknown length doubles its claim, so that it waits a few times only.
	more := min(max(bytes-c.bytes, c.bytes, SmallAnswerBytes+1), b.most-c.bytes)
	give, err := b.reserveBytes(ctx, more, read)
	if err != nil {
		return err
	}

	c.bytes += more
	c.gives = append(c.gives, give)
	return nil
}

// Return gives the bytes of the claim back.
func (c *BodyClaim) Return() {
	for _, give := range c.gives {
		give()
	}
	*c = BodyClaim{}
}

// Take waits until so many bytes are free, or all where the budget is smaller, and takes them until give is called. It fails
// with KindUnavailable after 10 seconds, and with ctx's error when that ends first.
func (b *Budget) Take(ctx context.Context, bytes int) (give func(), err error) {
	return b.reserveBytes(ctx, bytes, false)
}

// TakeRead is Take for an answer that is in memory already. At most as many bytes as the budget has wait so: one more answer
// fails at once.
func (b *Budget) TakeRead(ctx context.Context, bytes int) (give func(), err error) {
	return b.reserveBytes(ctx, bytes, true)
}

func (b *Budget) reserveBytes(ctx context.Context, bytes int, read bool) (give func(), err error) {
	if b == nil || bytes <= SmallAnswerBytes {
		return func() {}, nil
	}

	// An answer above the whole budget takes all of it: it then runs alone.
	bytes = min(bytes, b.most)
	c := &claim{bytes: bytes, read: read, granted: make(chan struct{})}
	if !b.queueClaim(c) {
		return nil, b.fullError()
	}

	// A caller may call give in a defer and before, so only the first call counts.
	give = sync.OnceFunc(func() { b.returnBytes(bytes) })

	timer := time.NewTimer(BudgetTimeout)
	defer timer.Stop()
	select {
	case <-c.granted:
		return give, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = b.fullError()
	}

	if !b.withdrawClaim(c) { // it was granted meanwhile
		give()
	}

	return nil, err
}

func (b *Budget) fullError() error { return &Error{Kind: KindUnavailable, Msg: b.full} }

// queueClaim puts a claim behind those that wait, and grants what fits. It returns false where too much waits in memory.
func (b *Budget) queueClaim(c *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// A claim in memory costs its bytes while it waits, so those that wait are bounded too.
	if c.read && b.read+c.bytes > b.most {
		return false
	}

	if c.read {
		b.read += c.bytes
	}
	b.claims = append(b.claims, c)
	b.grantClaims()
	return true
}

// dropClaim takes a claim out of those that wait. Caller holds mu.
func (b *Budget) dropClaim(place int) {
	if c := b.claims[place]; c.read {
		b.read -= c.bytes
	}
	b.claims = slices.Delete(b.claims, place, place+1)
}

// returnBytes gives bytes back.
func (b *Budget) returnBytes(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += bytes
	b.grantClaims()
}

// grantClaims gives the oldest claims what they wait for. Caller holds mu.
func (b *Budget) grantClaims() {
	// The first one only: a small claim that passes a large one could keep it waiting forever.
	for len(b.claims) > 0 && b.claims[0].bytes <= b.free {
		b.free -= b.claims[0].bytes
		close(b.claims[0].granted)
		b.dropClaim(0)
	}
}

// withdrawClaim takes out a claim that waits; false when it waits no more.
func (b *Budget) withdrawClaim(c *claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.claims {
		if other == c {
			b.dropClaim(i)
			b.grantClaims() // smaller ones may fit
			return true
		}
	}
	return false
}

// BytesOf is about how many bytes the rows of a list take in an answer.
func BytesOf[T interface{ Bytes() int }](rows []T) (n int) {
	for _, r := range rows {
		n += r.Bytes()
	}
	return n
}

// NameBytes is about how many bytes names take in an answer.
func NameBytes(names []string) (n int) {
	for _, name := range names {
		n += len(name) + 3
	}
	return n
}

// ListRoom counts the bytes of a list without pages while it is read. The zero value is an empty list.
type ListRoom int

// Add counts a row of so many bytes. It fails with KindTooLarge above MaxListBytes; remedy says how to read the rows then.
func (n *ListRoom) Add(bytes int, remedy string) error {
	*n += ListRoom(bytes)
	if *n > MaxListBytes {
		return &Error{Kind: KindTooLarge, Field: "list", Msg: fmt.Sprintf("must have at most %d bytes, got more; %s", MaxListBytes, remedy)}
	}
	return nil
}

// These remedies are for lists with more than MaxListBytes.
const (
	RemedyWorkers  = "list the retained tasks instead, which come in pages"
	RemedyTokens   = "revoke tokens by their ids, which the audit has"
	RemedySessions = "end sessions by their ids, which the audit has"
)

// TaskBytes is about how many bytes tasks take in an answer.
func TaskBytes(tasks []*Task) (n int) {
	for _, t := range tasks {
		n += t.Bytes()
	}
	return n
}

// TickerBytes is about how many bytes tickers take in an answer.
func TickerBytes(tickers []*Ticker) (n int) {
	for _, t := range tickers {
		n += t.Bytes()
	}
	return n
}

// TickBytes is about how many bytes ticks take in an answer.
func TickBytes(ticks []Tick) (n int) {
	for i := range ticks {
		n += ticks[i].Bytes()
	}
	return n
}

// TakePayload is TakeAnswer for an answer of which the payload is the only content. Where the bytes do not become free in time
// it removes the payload.
func (b *Budget) TakePayload(ctx context.Context, payload *json.RawMessage) (give func()) {
	give, err := b.TakeRead(ctx, len(*payload))
	if err == nil {
		return give
	}
	*payload = nil
	return func() {}
}

// TakeAnswer takes the bytes of the tasks of an answer that must not fail, since its call has changed them. Where the bytes do
// not become free in time it takes the content out of the tasks, which may be shared, by way of copies.
func (b *Budget) TakeAnswer(ctx context.Context, tasks ...**Task) (give func()) {
	bytes := 0
	for _, t := range tasks {
		bytes += (*t).Bytes()
	}

	give, err := b.TakeRead(ctx, bytes)
	if err == nil {
		return give
	}
	for _, t := range tasks {
		*t = (*t).WithoutContent()
	}
	return func() {}
}

// TakeCreated is TakeAnswer for the tasks of a create; nil where they are small.
func (b *Budget) TakeCreated(ctx context.Context, tasks []*Task) (give func()) {
	if TaskBytes(tasks) <= SmallAnswerBytes {
		return nil
	}

	// Pointers into the slice, because TakeAnswer replaces tasks that get no bytes.
	places := make([]**Task, len(tasks))
	for i := range tasks {
		places[i] = &tasks[i]
	}
	return b.TakeAnswer(ctx, places...)
}

// ReleasedTasks are where the tasks of released are.
func ReleasedTasks(released []Released) (tasks []**Task) {
	for i := range released {
		if released[i].Task != nil {
			tasks = append(tasks, &released[i].Task)
		}
	}
	return tasks
}

// RetainWithin retains tasks of svc and takes the bytes of the answer from b: before they are read where r does not wait and
// asks for more than usual, else as soon as they are known. Tasks that wait too long for their bytes go back.
func (b *Budget) RetainWithin(ctx context.Context, svc Service, r RetainRequest) (tasks []*Task, give func(), err error) {
	asked := 0
	if r.Wait == 0 && r.Limit > 1 && r.MaxBytes > DefaultRetainBytes {
		asked = r.MaxBytes
	}

	if give, err = b.Take(ctx, asked); err != nil {
		return nil, nil, err
	}

	if tasks, err = svc.RetainTasks(ctx, r); err != nil || asked > 0 || b == nil {
		if err != nil {
			give()
		}
		return tasks, give, err
	}

	// A retain that waits must not keep bytes meanwhile, so it takes them for the tasks that came.
	if give, err = b.TakeRead(ctx, TaskBytes(tasks)); err != nil {
		return nil, nil, errors.Join(err, GiveBack(ctx, svc, r, tasks))
	}

	return tasks, give, nil
}
