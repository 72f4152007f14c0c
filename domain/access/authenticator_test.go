package access_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// fakeTokens is a store of one token that counts its calls.
type fakeTokens struct {
	access.Tokens
	mu      sync.Mutex
	token   access.Token
	digest  [sha256.Size]byte
	err     error
	slow    time.Duration
	finds   atomic.Int64
	gets    atomic.Int64
	touches atomic.Int64
}

// newFakeTokens returns a store with one live token, and the text of its secret.
func newFakeTokens(t *testing.T) (*fakeTokens, string) {
	n, secret, err := access.Issue(access.Owner(), "worker", mustGrants(t, "worker@own"), 0)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeTokens{token: access.Token{ID: n.ID, Name: n.Name, Grants: n.Grants}, digest: n.Digest}, secret.Reveal()
}

func (f *fakeTokens) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fakeTokens) FindToken(ctx context.Context, digest [sha256.Size]byte) (access.Token, error) {
	f.finds.Add(1)
	if f.slow > 0 {
		select {
		case <-time.After(f.slow):
		case <-ctx.Done():
			return access.Token{}, queue.ContextError(ctx.Err())
		}
	}
	return f.answer(digest == f.digest)
}

func (f *fakeTokens) GetToken(_ context.Context, id string) (access.Token, error) {
	f.gets.Add(1)
	return f.answer(id == f.token.ID)
}

func (f *fakeTokens) LiveTokenDigests(context.Context) ([][sha256.Size]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return [][sha256.Size]byte{f.digest}, f.err
}

func (f *fakeTokens) answer(known bool) (access.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
		return access.Token{}, f.err
	case !known:
		return access.Token{}, access.NoToken("")
	}
	t := f.token
	t.Now = time.Now()
	return t, nil
}

func (f *fakeTokens) TouchToken(context.Context, string) error {
	f.touches.Add(1)
	return errors.New("read-only")
}

func TestAuthenticate(t *testing.T) {
	store, text := newFakeTokens(t)
	admin := access.NewSecret()
	a := access.NewAuthenticator(store)
	a.AcceptStatic(access.StaticToken{Secret: admin, Grants: mustGrants(t, "system@*")})

	p, err := a.Authenticate(t.Context(), text)
	if err != nil || p.ID != store.token.ID || p.Kind != access.KindToken || !p.May(queue.ActionTaskWork, "own", "mail") {
		t.Fatalf("a live token is %+v, %v", p, err)
	}
	if p, err := a.Authenticate(t.Context(), admin.Reveal()); err != nil || p.ID != admin.ID() || !p.May(queue.ActionAccessManage, "", "") {
		t.Errorf("an admin token is %+v, %v", p, err)
	}
	if err := a.Confirm(t.Context(), p); err != nil {
		t.Errorf("a live token is not confirmed: %v", err)
	}

	static, err := a.Authenticate(t.Context(), admin.Reveal())
	if err != nil || a.Confirm(t.Context(), static) != nil {
		t.Errorf("an admin token: %v", err)
	}
	a.AcceptStatic(access.StaticToken{Secret: admin, Grants: mustGrants(t, "viewer@own")})
	if err := a.Confirm(t.Context(), static); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("a static token that has other grants by now: %v", err)
	}
	gets := store.gets.Load()

	before := store.finds.Load()
	for _, garbage := range []string{"", "x", text[:50], text[:50] + "!"} {
		if _, err := a.Authenticate(t.Context(), garbage); !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("%q: %v", garbage, err)
		}
	}
	if n := store.finds.Load() - before; n != 0 {
		t.Errorf("texts of another form cost %d queries", n)
	}

	unknown := access.NewSecret().Reveal()
	for range 10 {
		if _, err := a.Authenticate(t.Context(), unknown); !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("an unknown token: %v", err)
		}
	}
	if n := store.finds.Load() - before; n != 1 {
		t.Errorf("ten calls with an unknown token cost %d queries, want 1", n)
	}
	if n := store.gets.Load() - gets; n != 0 {
		t.Errorf("the confirmation of a known token cost %d queries", n)
	}
}

// TestRevocationTakesEffect: at the latest CacheTime after it, for new calls and for open streams.
func TestRevocationTakesEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, text := newFakeTokens(t)
		a := access.NewAuthenticator(store)
		p, err := a.Authenticate(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		store.change(func() { store.token.RevokedAt = time.Now() })
		if _, err := a.Authenticate(t.Context(), text); err != nil {
			t.Errorf("at once: %v; the cache still holds", err)
		}
		a.Forget()
		if err := a.Confirm(t.Context(), p); !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("after Forget: %v", err)
		}

		store.change(func() { store.token.RevokedAt = time.Time{} })
		a.Forget()
		if _, err := a.Authenticate(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		store.change(func() { store.token.ExpiresAt = time.Now() })
		time.Sleep(access.CacheTime)
		if _, err := a.Authenticate(t.Context(), text); !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("after CacheTime: %v", err)
		}
		if err := a.Confirm(t.Context(), p); !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("an open stream after CacheTime: %v", err)
		}
	})
}

// TestStoreIsDown: a store that does not answer refuses no token for good, and is not cached.
func TestStoreIsDown(t *testing.T) {
	store, text := newFakeTokens(t)
	a := access.NewAuthenticator(store)
	store.change(func() { store.err = queue.ErrUnavailable })
	for range 2 {
		if _, err := a.Authenticate(t.Context(), text); !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("while the store is down: %v", err)
		}
	}
	store.change(func() { store.err = nil })
	if _, err := a.Authenticate(t.Context(), text); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// TestManyCallersShareARead: 500 workers with one token cost one query, and one write of its use, also when the first leaves.
func TestManyCallersShareARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, text := newFakeTokens(t)
		store.slow = time.Second
		a := access.NewAuthenticator(store)

		// The first caller leaves during the read; the others still get their answer.
		leaving, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := a.Authenticate(leaving, text); !errors.Is(err, queue.ErrCanceled) {
				t.Errorf("the caller that left: %v", err)
			}
		})
		synctest.Wait()
		for range 500 {
			all.Go(func() {
				if _, err := a.Authenticate(t.Context(), text); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
		if finds, touches := store.finds.Load(), store.touches.Load(); finds != 1 || touches != 1 {
			t.Errorf("%d queries and %d writes, want 1 and 1", finds, touches)
		}

		for range 20 {
			time.Sleep(access.CacheTime)
			if _, err := a.Authenticate(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		if finds, touches := store.finds.Load(), store.touches.Load(); finds != 21 || touches != 1 {
			t.Errorf("%d queries and %d writes, want 21 and 1", finds, touches)
		}
	})
}

// TestCallersOfOneReadHaveTheirOwnTime: a caller that shares a read gets what it would have got alone. The deadline, the
// address and the doubt of the callers before it have no part in it.
func TestCallersOfOneReadHaveTheirOwnTime(t *testing.T) {
	type doubtfulKey struct{}
	doubtful := func(ctx context.Context) context.Context { return context.WithValue(ctx, doubtfulKey{}, true) }
	flooded := func(ctx context.Context) context.Context { return fromAddress(ctx, "192.0.2.9:1000") }
	same := func(ctx context.Context) context.Context { return ctx }
	for name, c := range map[string]struct {
		first  func(context.Context) context.Context
		life   time.Duration // of the first caller
		flood  int           // made-up tokens before it, as the first caller
		within time.Duration // for the second caller
	}{
		"an early deadline":             {same, 100 * time.Millisecond, 0, 300 * time.Millisecond},
		"a caller of a flooded address": {flooded, time.Hour, 100, 300 * time.Millisecond},
		"one that the flood refuses":    {flooded, time.Hour, 1000, 300 * time.Millisecond},
		"a doubtful caller":             {doubtful, time.Hour, 100, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, text := newFakeTokens(t)
				store.slow = 300 * time.Millisecond
				a := access.NewAuthenticator(store)
				a.Doubt(func(ctx context.Context) bool { return ctx.Value(doubtfulKey{}) != nil })

				first, cancel := context.WithTimeout(c.first(t.Context()), c.life)
				var all sync.WaitGroup
				defer all.Wait()
				defer cancel()
				for range c.flood {
					all.Go(func() { _, _ = a.Authenticate(flooded(first), access.NewSecret().Reveal()) })
				}
				synctest.Wait()
				begin := time.Now()
				all.Go(func() {
					if _, err := a.Authenticate(first, text); c.flood == 0 && (!errors.Is(err, queue.ErrDeadline) || time.Since(begin) != c.life) {
						t.Errorf("the first caller gets %v after %v", err, time.Since(begin))
					}
				})
				synctest.Wait()
				if _, err := a.Authenticate(t.Context(), text); err != nil || time.Since(begin) > c.within {
					t.Errorf("the second caller gets %v after %v, want a principal within %v", err, time.Since(begin), c.within)
				}
			})
		})
	}
}

// TestAReadWithoutCallersEnds: look-ups that no caller waits for any more take no turn, and a later caller starts one of its own.
func TestAReadWithoutCallersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, text := newFakeTokens(t)
		store.slow = time.Hour
		a := access.NewAuthenticator(store)
		for range 3 {
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := a.Authenticate(short, text); !errors.Is(err, queue.ErrDeadline) {
				t.Errorf("a caller with a second gets %v", err)
			}
			cancel()
		}
		synctest.Wait()
		store.slow = 0
		if _, err := a.Authenticate(t.Context(), text); err != nil || store.finds.Load() != 4 {
			t.Errorf("after %d queries: %v", store.finds.Load(), err)
		}
	})
}

// TestAPanicOfTheStoreReachesItsCallers: it does not end the process, as a request of its own would not.
func TestAPanicOfTheStoreReachesItsCallers(t *testing.T) {
	_, text := newFakeTokens(t)
	a := access.NewAuthenticator(nil)
	for range 2 {
		if _, err := a.Authenticate(t.Context(), text); queue.KindOf(err) != queue.KindInternal {
			t.Errorf("got %v", err)
		}
	}
}

func TestIssue(t *testing.T) {
	viewer := access.NewPrincipal("v", "v", access.KindToken, mustGrants(t, "viewer@own"))
	system := access.NewPrincipal("s", "s", access.KindToken, mustGrants(t, "system@*"))
	for name, c := range map[string]struct {
		creator *access.Principal
		name    string
		grants  []access.Grant
		life    time.Duration
		want    queue.Kind
		field   string
	}{
		"the owner of the database": {access.Owner(), "a", mustGrants(t, "system@*"), 0, "", ""},
		"a system token":            {system, "a", mustGrants(t, "admin@own"), access.DefaultTokenLife, "", ""},
		"no right to tokens":        {viewer, "a", mustGrants(t, "viewer@own"), 0, queue.KindDenied, ""},
		"no name":                   {access.Owner(), " ", mustGrants(t, "viewer@own"), 0, queue.KindInvalid, "name"},
		"a name of two lines":       {access.Owner(), "a\nb", mustGrants(t, "viewer@own"), 0, queue.KindInvalid, "name"},
		"no grant":                  {access.Owner(), "a", nil, 0, queue.KindInvalid, "grants"},
		"a negative life":           {access.Owner(), "a", mustGrants(t, "viewer@own"), -1, queue.KindInvalid, "expires"},
		"a life of a second":        {access.Owner(), "a", mustGrants(t, "viewer@own"), time.Second, queue.KindInvalid, "expires"},
		"a life of 20 years":        {access.Owner(), "a", mustGrants(t, "viewer@own"), 2 * access.MaxTokenLife, queue.KindInvalid, "expires"},
	} {
		n, secret, err := access.Issue(c.creator, c.name, c.grants, c.life)
		var e *queue.Error
		if errors.As(err, &e); queue.KindOf(err) != c.want || e != nil && e.Field != c.field {
			t.Errorf("%s: %v, want %q of %q", name, err, c.want, c.field)
		}
		if err == nil && (n.ID != secret.ID() || n.Digest != secret.Digest() || n.Life != c.life) {
			t.Errorf("%s: %+v does not belong to %v", name, n, secret)
		}
	}
}

// TestMadeUpTokensDelayNoOthers: in a flood of made-up tokens, which fills the cache too, a token that was live before waits for
// none of them, and a new one only for those of callers without doubt.
func TestMadeUpTokensDelayNoOthers(t *testing.T) {
	type doubtfulKey struct{}
	synctest.Test(t, func(t *testing.T) {
		store, text := newFakeTokens(t)
		a := access.NewAuthenticator(store)
		a.Doubt(func(ctx context.Context) bool { return ctx.Value(doubtfulKey{}) != nil })
		if _, err := a.Authenticate(t.Context(), text); err != nil {
			t.Fatal(err)
		}

		store.slow = time.Second
		flood, end := context.WithCancel(fromAddress(t.Context(), "192.0.2.9:1000"))
		doubtful := context.WithValue(fromAddress(flood, "192.0.2.10:1000"), doubtfulKey{}, true)
		var all sync.WaitGroup
		defer all.Wait()
		defer end()
		for range 6_000 {
			all.Go(func() { _, _ = a.Authenticate(flood, access.NewSecret().Reveal()) })
			all.Go(func() { _, _ = a.Authenticate(doubtful, access.NewSecret().Reveal()) })
		}
		synctest.Wait()

		for _, when := range []string{"after CacheTime", "after a change of tokens"} {
			if when == "after CacheTime" {
				time.Sleep(access.CacheTime)
			} else {
				a.Forget()
			}
			begin := time.Now()
			p, err := a.Authenticate(t.Context(), text)
			if took := time.Since(begin); err != nil || took > store.slow {
				t.Errorf("%s a token that was live before waits %v: %v", when, took, err)
			}
			a.Forget()
			begin = time.Now()
			if err := a.Confirm(t.Context(), p); err != nil || time.Since(begin) > store.slow || store.gets.Load() != 0 {
				t.Errorf("%s its open stream waits %v, with %d queries by the id: %v", when, time.Since(begin), store.gets.Load(), err)
			}
		}

		other := access.NewAuthenticator(store) // of a process that has seen no token
		other.Doubt(func(ctx context.Context) bool { return ctx.Value(doubtfulKey{}) != nil })
		for range 100 {
			all.Go(func() { _, _ = other.Authenticate(doubtful, access.NewSecret().Reveal()) })
		}
		synctest.Wait()
		begin := time.Now()
		if _, err := other.Authenticate(t.Context(), text); err != nil || time.Since(begin) > store.slow {
			t.Errorf("a new token waits %v: %v", time.Since(begin), err)
		}
	})
}

// fromAddress returns ctx of a call from an address.
func fromAddress(ctx context.Context, remote string) context.Context {
	return access.WithCaller(ctx, access.Caller{Remote: remote})
}

// TestLookupsOfOneAddressDelayNoOthers: 10,000 made-up tokens at once, before any of them is refused, delay a new token of another
// address by one read at most. Those that would wait behind 1,000 others are refused soon with a kind that clients repeat. A token that
// was live before passes from the same address, and so does a new one.
func TestLookupsOfOneAddressDelayNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, text := newFakeTokens(t)
		seen := access.NewAuthenticator(store)
		if _, err := seen.Authenticate(fromAddress(t.Context(), "192.0.2.9:1000"), text); err != nil {
			t.Fatal(err)
		}
		store.slow = time.Millisecond
		unseen := access.NewAuthenticator(store)
		for _, a := range []*access.Authenticator{seen, unseen} {
			var all sync.WaitGroup
			var waited, refused atomic.Int64
			begin := time.Now()
			for i := range 10_000 {
				all.Go(func() {
					_, err := a.Authenticate(fromAddress(t.Context(), fmt.Sprint("192.0.2.9:", 1000+i)), access.NewSecret().Reveal())
					switch {
					case errors.Is(err, queue.ErrUnauthenticated):
						waited.Add(1)
					case errors.Is(err, access.ErrLookups) && queue.KindOf(err) == queue.KindUnavailable && time.Since(begin) < 100*time.Millisecond:
						refused.Add(1)
					default:
						t.Errorf("a made-up token gets %v after %v", err, time.Since(begin))
					}
				})
			}
			synctest.Wait()
			from := "192.0.2.8:1000"
			if a == seen {
				from = "192.0.2.9:1000"
			}
			if _, err := a.Authenticate(fromAddress(t.Context(), from), text); err != nil || time.Since(begin) > 2*store.slow {
				t.Errorf("a valid token waits %v: %v", time.Since(begin), err)
			}
			if _, err := a.Authenticate(fromAddress(t.Context(), "192.0.2.9:1001"), text); err != nil || time.Since(begin) > 100*time.Millisecond {
				t.Errorf("a valid token of the address of the flood waits %v: %v", time.Since(begin), err)
			}
			all.Wait()
			if waited.Load() != 1000 || refused.Load() != 9000 {
				t.Errorf("%d made-up tokens were looked up and %d were not, want 1000 and 9000", waited.Load(), refused.Load())
			}
		}
	})
}

// TestNewTokensOfOneAddressPass: 500 workers behind one address start with a token each, at once, at a server that has seen none.
func TestNewTokensOfOneAddressPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &manyTokens{slow: time.Millisecond}
		a := access.NewAuthenticator(store)
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				if _, err := a.Authenticate(fromAddress(t.Context(), "192.0.2.9:1000"), access.NewSecret().Reveal()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

// manyTokens is a store in which each token is live.
type manyTokens struct {
	fakeTokens
	slow time.Duration
}

func (m *manyTokens) FindToken(_ context.Context, digest [sha256.Size]byte) (access.Token, error) {
	time.Sleep(m.slow)
	return access.Token{ID: fmt.Sprintf("%x", digest[:4]), Now: time.Now()}, nil
}

// TestEndOfASessionForgetsItAlone: a sign-out ends the trust in the session, also in a read of it under way, and causes no read of
// another credential.
func TestEndOfASessionForgetsItAlone(t *testing.T) {
	store, text := newFakeTokens(t)
	sessions := &fakeSessions{live: map[[sha256.Size]byte]string{}, ended: map[string]bool{}}
	a := access.NewAuthenticator(store)
	a.AcceptSessions(sessions, &access.Mapping{})
	open := func() (string, *access.Principal) {
		t.Helper()
		secret := access.NewSessionSecret()
		sessions.live[secret.Digest()] = secret.ID()
		p, err := a.AuthenticateSession(t.Context(), secret.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		return secret.Reveal(), p
	}
	first, one := open()
	second, _ := open()
	if _, err := a.Authenticate(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	tokenReads, sessionReads := store.finds.Load(), sessions.finds

	sessions.ended[one.ID] = true
	a.ForgetSession(one.ID)
	if _, err := a.AuthenticateSession(t.Context(), first); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("the ended session: %v", err)
	}
	if _, err := a.AuthenticateSession(t.Context(), second); err != nil {
		t.Error(err)
	}
	if _, err := a.Authenticate(t.Context(), text); err != nil {
		t.Error(err)
	}
	if n := store.finds.Load() - tokenReads; n != 0 || sessions.finds-sessionReads != 1 {
		t.Errorf("a sign-out causes %d reads of tokens and %d of sessions, want 0 and 1", n, sessions.finds-sessionReads)
	}

	// The first read of a session is under way while it ends.
	secret := access.NewSessionSecret()
	sessions.live[secret.Digest()] = secret.ID()
	sessions.during = func() {
		sessions.during = nil
		sessions.ended[secret.ID()] = true
		a.ForgetSession(secret.ID())
	}
	_, _ = a.AuthenticateSession(t.Context(), secret.Reveal())
	if _, err := a.AuthenticateSession(t.Context(), secret.Reveal()); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("a session that ended during its first read: %v", err)
	}
}

// fakeSessions is a store of sessions for one goroutine that counts its reads.
type fakeSessions struct {
	access.SessionStore
	live   map[[sha256.Size]byte]string
	ended  map[string]bool
	finds  int
	during func() // called behind the next read, before its answer
}

func (f *fakeSessions) FindSession(_ context.Context, digest [sha256.Size]byte) (access.Session, error) {
	f.finds++
	now := time.Now()
	s := access.Session{
		ID: f.live[digest], Opener: access.Opener{PrincipalID: "ann", Kind: access.KindToken}, TokenStored: true,
		ExpiresAt: now.Add(time.Hour), UsedAt: now, Idle: time.Hour, Now: now,
	}
	if f.ended[s.ID] {
		s.EndedAt = now
	}
	if f.during != nil {
		f.during()
	}
	return s, nil
}

func (f *fakeSessions) TouchSession(context.Context, string) error { return nil }

// TestAReplacedStaticTokenEnds: another secret under the same id, with the same grants, ends the requests and the sessions that rest
// on the former one.
func TestAReplacedStaticTokenEnds(t *testing.T) {
	store, _ := newFakeTokens(t)
	a := access.NewAuthenticator(store)
	grants := mustGrants(t, "system@*")
	former := access.NewSecret()
	next, err := access.ParseStaticSecret(former.Reveal()[:13] + access.NewSecret().Reveal()[13:])
	if err != nil || next.ID() != former.ID() || next == former {
		t.Fatal(next, err)
	}

	a.AcceptStatic(access.StaticToken{Secret: former, Grants: grants})
	p, err := a.Authenticate(t.Context(), former.Reveal())
	if err != nil || a.Confirm(t.Context(), p) != nil {
		t.Fatal(err)
	}
	a.AcceptStatic(access.StaticToken{Secret: former, Grants: grants}) // read again
	if err := a.Confirm(t.Context(), p); err != nil {
		t.Errorf("after the same token was read again: %v", err)
	}
	a.AcceptStatic(access.StaticToken{Secret: next, Grants: grants})
	if err := a.Confirm(t.Context(), p); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("a request by the former secret: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), former.Reveal()); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("the former secret: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), next.Reveal()); err != nil {
		t.Errorf("the next secret: %v", err)
	}
}

// TestRevocationDuringARead: a read that began before a change of tokens is not trusted after it.
func TestRevocationDuringARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, text := newFakeTokens(t)
		stale := &delayedTokens{fakeTokens: store, answered: make(chan struct{}), deliver: make(chan struct{})}
		b := access.NewAuthenticator(stale)
		var all sync.WaitGroup
		all.Go(func() { _, _ = b.Authenticate(t.Context(), text) })
		<-stale.answered
		store.change(func() { store.token.RevokedAt = time.Now() })
		b.Forget()
		_, err := b.Authenticate(t.Context(), text)
		close(stale.deliver)
		all.Wait()
		for range 2 {
			if !errors.Is(err, queue.ErrUnauthenticated) {
				t.Errorf("a revoked token: %v", err)
			}
			_, err = b.Authenticate(t.Context(), text)
		}
	})
}

// delayedTokens delivers its first answer late.
type delayedTokens struct {
	*fakeTokens
	once              sync.Once
	answered, deliver chan struct{}
}

func (d *delayedTokens) FindToken(ctx context.Context, digest [sha256.Size]byte) (access.Token, error) {
	found, err := d.fakeTokens.FindToken(ctx, digest)
	first := false
	d.once.Do(func() { first = true })
	if first {
		close(d.answered)
		<-d.deliver
	}
	return found, err
}

// slowCodes is a store of sessions that counts the reads of codes under way.
type slowCodes struct {
	access.SessionStore
	now, most atomic.Int64
}

func (s *slowCodes) RedeemCode(context.Context, access.Redemption) (access.Session, error) {
	s.most.Store(max(s.most.Load(), s.now.Add(1)))
	defer s.now.Add(-1)
	time.Sleep(time.Second)
	return access.Session{}, access.NoSession("")
}

// TestMadeUpCodesLeaveConnections: a flood of made-up codes has two reads of the store at one time, and one of another address waits
// for none of them.
func TestMadeUpCodesLeaveConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowCodes{}
		keeper := access.NewSessionKeeper(access.SessionSettings{Store: store})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := keeper.OpenSession(t.Context(), access.SignIn{Code: access.NewCode().Reveal()}); queue.KindOf(err) != queue.KindUnauthenticated {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if most := store.most.Load(); most != 2 {
			t.Errorf("%d reads at one time, want 2", most)
		}
		begin := time.Now()
		_, err := keeper.OpenSession(fromAddress(t.Context(), "192.0.2.8:1000"), access.SignIn{Code: access.NewCode().Reveal()})
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a code of another address takes %v: %v", took, err)
		}
		all.Wait()
	})
}

// TestTheLimitRefusesNoValidOne: while 1,000 look-ups of one address are under way in a store that is slow, a token and a session that
// this process has not read, and a code, pass from that address, each also when it was made a moment ago. When the store does not
// answer at all, the limit refuses after a second.
func TestTheLimitRefusesNoValidOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, text := newFakeTokens(t)
		sessions := &liveSessions{}
		a := access.NewAuthenticator(store)
		a.AcceptSessions(sessions, &access.Mapping{})
		keeper := access.NewSessionKeeper(access.SessionSettings{Store: sessions, Authenticate: a.Authenticate})
		ctx := fromAddress(t.Context(), "192.0.2.9:1000")
		held, release := context.WithCancel(ctx)
		var all sync.WaitGroup
		flood := func() {
			for range 1000 {
				all.Go(func() { _, _ = a.Authenticate(held, access.NewSecret().Reveal()) })
				all.Go(func() { _, _ = keeper.OpenSession(held, access.SignIn{Code: access.NewCode().Reveal()}) })
			}
			synctest.Wait()
		}
		store.slow, sessions.slow = time.Second, time.Second
		session, code := access.NewSessionSecret(), access.NewCode()
		sessions.add(session.Digest())
		sessions.add(code.Digest())
		for what, ask := range map[string]func() error{
			"a token":   func() error { _, err := a.Authenticate(ctx, text); return err },
			"a session": func() error { _, err := a.AuthenticateSession(ctx, session.Reveal()); return err },
			"a code":    func() error { _, err := keeper.OpenSession(ctx, access.SignIn{Code: code.Reveal()}); return err },
		} {
			flood()
			if err := ask(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			flood()
			made := access.NewSecret().Reveal()
			if _, err := a.Authenticate(ctx, made); !errors.Is(err, access.ErrLookups) {
				t.Errorf("a made-up token beside %s: %v", what, err)
			}
		}
		flood()
		sessions.hang.Store(true)
		begin := time.Now()
		if _, err := a.Authenticate(ctx, access.NewSecret().Reveal()); !errors.Is(err, access.ErrLookups) || time.Since(begin) > time.Second {
			t.Errorf("with a store that hangs: %v after %v", err, time.Since(begin))
		}
		release()
		all.Wait()
		time.Sleep(time.Minute) // the last read ends
	})
}

// liveSessions is a store of sessions of which the digests are known.
type liveSessions struct {
	access.SessionStore
	slow time.Duration
	hang atomic.Bool

	mu   sync.Mutex
	live map[[sha256.Size]byte]bool
}

func (s *liveSessions) add(digest [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = map[[sha256.Size]byte]bool{}
	}
	s.live[digest] = true
}

func (s *liveSessions) find(ctx context.Context, digest [sha256.Size]byte) (access.Session, error) {
	select {
	case <-time.After(s.slow):
	case <-ctx.Done():
		return access.Session{}, queue.ContextError(ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live[digest] {
		return access.Session{}, access.NoSession("")
	}
	now := time.Now()
	return access.Session{
		ID: "abcdefgh", Opener: access.Opener{PrincipalID: "a", Kind: access.KindToken}, TokenStored: true,
		ExpiresAt: now.Add(time.Hour), Idle: time.Hour, UsedAt: now, Now: now,
	}, nil
}

func (s *liveSessions) FindSession(ctx context.Context, digest [sha256.Size]byte) (access.Session, error) {
	return s.find(ctx, digest)
}

func (s *liveSessions) RedeemCode(ctx context.Context, r access.Redemption) (access.Session, error) {
	return s.find(ctx, r.Code)
}

func (*liveSessions) TouchSession(context.Context, string) error { return nil }

func (s *liveSessions) LiveSessionDigests(ctx context.Context) ([][sha256.Size]byte, error) {
	if s.hang.Load() {
		<-ctx.Done()
		return nil, queue.ContextError(ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.live)), nil
}
