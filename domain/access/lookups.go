package access

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/pgqueue/pgqueue/domain/queue"
)

const (
	// maxLookups bounds the look-ups of unknown credentials of one address that are under way or wait. 500 workers behind one
	// address start with 500 tokens at once, and a look-up takes about 1 ms.
	maxLookups = 1000
	// lookupsAtOnce bounds those under way. Each user of a Lookups allows at least one more in all, which other addresses get.
	lookupsAtOnce = 2
)

// ErrLookups is the cause of a refusal because of too many look-ups of one address. It says nothing about the credential.
var ErrLookups = errors.New("too many look-ups of this address are under way")

// Lookups orders the look-ups of credentials that may be made up: two of one address are under way at one time, so that a flood
// delays the credentials of no other address. The zero Lookups is ready for use. It is safe for concurrent use.
type Lookups struct {
	mu        sync.Mutex
	addresses map[netip.Prefix]*addressLookups
}

// addressLookups are the look-ups of one address. It is in the map while it has callers.
type addressLookups struct {
	turns   chan struct{} // one element for each look-up under way
	callers int
}

// Enter waits for a turn of the address of a call, and returns the function that ends it. KindUnavailable with the cause
// [ErrLookups], at once, above 1,000 callers of one address.
func (l *Lookups) Enter(ctx context.Context) (leave func(), err error) {
	network := NetworkOf(CallerFrom(ctx).Remote)
	a, err := l.join(network)
	if err != nil {
		return nil, err
	}

	select {
	case a.turns <- struct{}{}:
		return func() {
			<-a.turns
			l.quit(network, a)
		}, nil
	case <-ctx.Done():
		l.quit(network, a)
		return nil, queue.ContextError(ctx.Err())
	}
}

// join counts a caller of an address.
func (l *Lookups) join(network netip.Prefix) (*addressLookups, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.addresses[network]
	switch {
	case a == nil:
		a = &addressLookups{turns: make(chan struct{}, lookupsAtOnce)}
		if l.addresses == nil {
			l.addresses = map[netip.Prefix]*addressLookups{}
		}
		l.addresses[network] = a
	case a.callers >= maxLookups:
		return nil, &queue.Error{
			Kind: queue.KindUnavailable, Err: ErrLookups,
			Msg: fmt.Sprintf("must wait, because %d other credentials of this address are being checked; repeat the request", maxLookups),
		}
	}
	a.callers++
	return a, nil
}

// quit counts a caller out.
func (l *Lookups) quit(network netip.Prefix, a *addressLookups) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.callers--
	if a.callers == 0 {
		delete(l.addresses, network)
	}
}

// NetworkOf returns the address of a connection without its port, for IPv6 its /64: a network that one owner usually has. Texts
// of another form share the zero network.
func NetworkOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}

	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	network, _ := addr.Prefix(bits) // the number of bits fits the address
	return network
}
