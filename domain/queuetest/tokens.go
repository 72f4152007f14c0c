package queuetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TokenStore is a store of tokens under test. Advance moves its clock ahead.
type TokenStore struct {
	access.Tokens
	Advance func(time.Duration)
	// Fill stores n live tokens in a faster way than by creates; nil for a store with fast creates.
	Fill func(t *testing.T, n int)
}

// TestTokens holds the stores that open returns, each empty, to the contract of [access.Tokens].
func TestTokens(t *testing.T, open func(t *testing.T) TokenStore) {
	for name, test := range map[string]func(*testing.T, TokenStore){
		"a token is found by its digest and by its id":                 testTokenFind,
		"an expired token is found, and is not live":                   testTokenExpiry,
		"a revoked token stays revoked":                                testTokenRevoke,
		"a rotation ends the former token after the overlap":           testTokenRotate,
		"a rotation of an ended or unknown token stores nothing":       testTokenRotateRefused,
		"a rotation with a lost answer is repeated within the overlap": testTokenRotateAgain,
		"an id or a digest exists once":                                testTokenTwice,
		"the list has the newest token first":                          testTokenList,
		"a token is there until it is revoked, though it expires":      testTokenThere,
		"the digests are those of the live tokens":                     testTokenDigests,
		"a use is recorded":                                            testTokenTouch,
		"a change by the caller after a call is not stored":            testTokenAliasing,
		"an ended context answers KindCanceled and changes nothing":    testTokenCanceled,
		"of many rotations of one token at once exactly one succeeds":  testTokenRotateRace,
		"of 150 creates at once exactly the limit succeed":             testTokenLimitRace,
		"each change of tokens is reported to each watcher":            testTokenWatch,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	t.Run("authenticator", func(t *testing.T) {
		TestAuthenticator(t, func(t *testing.T) Authenticator { return authenticatorOf(open(t)) })
	})
}

// testTokenWatch runs the listener of a store that has one, because it brings the reports.
func testTokenWatch(t *testing.T, s TokenStore) {
	watcher, ok := s.Tokens.(access.TokenWatcher)
	if !ok {
		t.Fatal("the store must be an access.TokenWatcher")
	}
	reports := [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
	for _, reported := range reports {
		t.Cleanup(watcher.WatchTokens(func() {
			select {
			case reported <- struct{}{}:
			default:
			}
		}))
	}
	forgotten := watcher.WatchTokens(func() { t.Error("a watcher is called after its stop") })
	forgotten()
	await := func(what string) {
		t.Helper()
		for i, reported := range reports {
			select {
			case <-reported:
			case <-time.After(time.Minute):
				t.Fatalf("%s: watcher %d got no report", what, i)
			}
		}
	}

	if listener, ok := s.Tokens.(queue.Listener); ok {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = listener.Listen(ctx, func(queue.Wake) {})
		}()
		defer func() {
			cancel()
			<-ended
		}()
		await("the begin of listening")
	}

	first := createToken(t, s, issueToken(t, "first", 0, "viewer@own"))
	await("a create")
	next := issueToken(t, "next", 0, "viewer@own")
	next.Replaces = first.ID
	createToken(t, s, next)
	await("a rotation")
	if _, err := s.RevokeToken(t.Context(), next.ID); err != nil {
		t.Fatal(err)
	}
	await("a revocation")
}

// testTokenThere: a server must not open by the passing of time.
func testTokenThere(t *testing.T, s TokenStore) {
	check := func(when string, want bool) {
		t.Helper()
		if has, err := s.HasTokens(t.Context()); err != nil || has != want {
			t.Errorf("%s: HasTokens is %v, %v; want %v", when, has, err, want)
		}
	}
	check("at first", false)
	expiring := createToken(t, s, issueToken(t, "expiring", time.Hour, "viewer@own"))
	revoked := createToken(t, s, issueToken(t, "revoked", 0, "viewer@own"))
	if _, err := s.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	check("with a live one", true)

	if _, err := s.RevokeToken(t.Context(), expiring.ID); err != nil {
		t.Fatal(err)
	}
	check("with all revoked", true)
	createToken(t, s, issueToken(t, "last", time.Hour, "viewer@own"))
	s.Advance(2 * time.Hour)
	check("with an expired one", true)
}

// issueToken returns a new token and its digest.
func issueToken(t *testing.T, name string, life time.Duration, grants ...string) access.NewToken {
	t.Helper()
	parsed, err := access.ParseGrants(grants)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := access.Issue(access.Owner(), name, parsed, life)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// createToken stores a new token.
func createToken(t *testing.T, s TokenStore, n access.NewToken) access.Token {
	t.Helper()
	token, err := s.CreateToken(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// sameToken reports whether two reads show the same token.
func sameToken(a, b access.Token) bool {
	return a.ID == b.ID && a.Name == b.Name && slices.Equal(a.Grants, b.Grants) && a.CreatedBy == b.CreatedBy && a.Replaces == b.Replaces &&
		a.CreatedAt.Equal(b.CreatedAt) && a.ExpiresAt.Equal(b.ExpiresAt) && a.UsedAt.Equal(b.UsedAt) && a.RevokedAt.Equal(b.RevokedAt)
}

func testTokenFind(t *testing.T, s TokenStore) {
	n := issueToken(t, "mail worker", time.Hour, "worker@default/mail*", "viewer@billing")
	n.CreatedBy = "creator1"
	created := createToken(t, s, n)
	if created.ID != n.ID || created.Name != "mail worker" || !slices.Equal(created.Grants, n.Grants) || created.CreatedBy != "creator1" ||
		created.ExpiresAt.Sub(created.CreatedAt) != time.Hour || !created.UsedAt.IsZero() || !created.Live() {
		t.Errorf("created %+v", created)
	}

	found, err := s.FindToken(t.Context(), n.Digest)
	if err != nil || !sameToken(found, created) || !found.Live() {
		t.Errorf("found %+v, %v; want %+v", found, err, created)
	}
	if got, err := s.GetToken(t.Context(), n.ID); err != nil || !sameToken(got, created) {
		t.Errorf("got %+v, %v; want %+v", got, err, created)
	}

	other := issueToken(t, "other", 0, "viewer@billing")
	if _, err := s.FindToken(t.Context(), other.Digest); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("an unknown digest gives %v", err)
	}
	if _, err := s.GetToken(t.Context(), other.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("an unknown id gives %v", err)
	}
	if token := createToken(t, s, other); !token.ExpiresAt.IsZero() {
		t.Errorf("a token without a life expires at %s", token.ExpiresAt)
	}
}

func testTokenExpiry(t *testing.T, s TokenStore) {
	n := issueToken(t, "short", time.Hour, "viewer@billing")
	createToken(t, s, n)
	s.Advance(59 * time.Minute)
	if found, err := s.FindToken(t.Context(), n.Digest); err != nil || !found.Live() {
		t.Errorf("before its end: %+v, %v", found, err)
	}
	s.Advance(2 * time.Minute)
	if found, err := s.FindToken(t.Context(), n.Digest); err != nil || found.Live() {
		t.Errorf("after its end: %+v, %v", found, err)
	}
}

func testTokenRevoke(t *testing.T, s TokenStore) {
	n := issueToken(t, "lost", 0, "viewer@billing")
	createToken(t, s, n)
	revoked, err := s.RevokeToken(t.Context(), n.ID)
	if err != nil || revoked.RevokedAt.IsZero() || revoked.Live() {
		t.Fatalf("revoked %+v, %v", revoked, err)
	}

	s.Advance(time.Hour)
	again, err := s.RevokeToken(t.Context(), n.ID)
	if err != nil || !again.RevokedAt.Equal(revoked.RevokedAt) {
		t.Errorf("revoked again %+v, %v; want the first time", again, err)
	}
	if found, err := s.FindToken(t.Context(), n.Digest); err != nil || found.Live() {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := s.RevokeToken(t.Context(), "unknown1"); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("an unknown id gives %v", err)
	}
}

func testTokenRotate(t *testing.T, s TokenStore) {
	old := createToken(t, s, issueToken(t, "old", 48*time.Hour, "viewer@billing"))
	n := issueToken(t, "new", 48*time.Hour, "viewer@billing")
	n.Replaces = old.ID
	n.Overlap = time.Hour
	token := createToken(t, s, n)
	if token.Replaces != old.ID || !token.Live() {
		t.Errorf("the new token is %+v", token)
	}

	former, err := s.GetToken(t.Context(), old.ID)
	if err != nil || !former.Live() || former.ExpiresAt.Sub(token.CreatedAt).Round(time.Minute) != time.Hour {
		t.Errorf("within the overlap the former token is %+v, %v", former, err)
	}
	s.Advance(2 * time.Hour)
	if former, err = s.GetToken(t.Context(), old.ID); err != nil || former.Live() {
		t.Errorf("after the overlap the former token is %+v, %v", former, err)
	}

	// A former token that ends sooner keeps its end.
	short := createToken(t, s, issueToken(t, "short", time.Hour, "viewer@billing"))
	n = issueToken(t, "next", 0, "viewer@billing")
	n.Replaces = short.ID
	n.Overlap = 24 * time.Hour
	createToken(t, s, n)
	if former, err = s.GetToken(t.Context(), short.ID); err != nil || !former.ExpiresAt.Equal(short.ExpiresAt) {
		t.Errorf("a token with an earlier end is %+v, %v", former, err)
	}
}

func testTokenRotateAgain(t *testing.T, s TokenStore) {
	old := createToken(t, s, issueToken(t, "old", 0, "viewer@billing"))
	rotate := func(name string) (next, former access.Token) {
		n := issueToken(t, name, 0, "viewer@billing")
		n.Replaces, n.Overlap = old.ID, time.Hour
		next = createToken(t, s, n)
		former, err := s.GetToken(t.Context(), old.ID)
		if err != nil || !former.Live() || !next.Live() {
			t.Fatalf("the former token is %+v, the next %+v, %v", former, next, err)
		}
		return next, former
	}

	lost, first := rotate("lost")
	s.Advance(10 * time.Minute)
	if _, second := rotate("again"); !second.ExpiresAt.Equal(first.ExpiresAt) {
		t.Errorf("a second rotation moves the end of the former token from %v to %v", first.ExpiresAt, second.ExpiresAt)
	}
	if revoked, err := s.RevokeToken(t.Context(), lost.ID); err != nil || revoked.Live() {
		t.Errorf("the token without an owner is %+v, %v", revoked, err)
	}
}

func testTokenRotateRefused(t *testing.T, s TokenStore) {
	revoked := createToken(t, s, issueToken(t, "revoked", 0, "viewer@billing"))
	if _, err := s.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	for former, want := range map[string]error{revoked.ID: queue.ErrConflict, "unknown1": queue.ErrNotFound} {
		n := issueToken(t, "new", 0, "viewer@billing")
		n.Replaces = former
		if _, err := s.CreateToken(t.Context(), n); !errors.Is(err, want) {
			t.Errorf("a rotation of %s gives %v, want %v", former, err, want)
		}
		if _, err := s.GetToken(t.Context(), n.ID); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("the refused token is stored: %v", err)
		}
	}
}

func testTokenTwice(t *testing.T, s TokenStore) {
	n := issueToken(t, "first", 0, "viewer@billing")
	createToken(t, s, n)
	other := issueToken(t, "second", 0, "admin@*")
	other.ID = n.ID
	if _, err := s.CreateToken(t.Context(), other); !errors.Is(err, queue.ErrAlreadyExists) {
		t.Errorf("a second token with the id gives %v", err)
	}
	if found, err := s.FindToken(t.Context(), n.Digest); err != nil || found.Name != "first" {
		t.Errorf("found %+v, %v; want the first", found, err)
	}
}

func testTokenList(t *testing.T, s TokenStore) {
	if list, err := s.ListTokens(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("an empty store lists %v, %v", list, err)
	}
	var ids []string
	for range 3 {
		n := issueToken(t, "listed", 0, "viewer@billing")
		createToken(t, s, n)
		ids = append(ids, n.ID)
		s.Advance(time.Minute)
	}
	slices.Reverse(ids)

	list, err := s.ListTokens(t.Context())
	var got []string
	for _, token := range list {
		got = append(got, token.ID)
	}
	if err != nil || !slices.Equal(got, ids) {
		t.Errorf("listed %v, %v; want %v", got, err, ids)
	}
}

func testTokenTouch(t *testing.T, s TokenStore) {
	n := issueToken(t, "used", 0, "viewer@billing")
	created := createToken(t, s, n)
	s.Advance(time.Hour)
	if err := s.TouchToken(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := s.GetToken(t.Context(), n.ID); err != nil || got.UsedAt.Sub(created.CreatedAt) < time.Hour {
		t.Errorf("after a use the token is %+v, %v", got, err)
	}
	if err := s.TouchToken(t.Context(), "unknown1"); err != nil {
		t.Errorf("a use of an unknown token gives %v", err)
	}
}

func testTokenAliasing(t *testing.T, s TokenStore) {
	n := issueToken(t, "aliased", 0, "viewer@billing")
	token := createToken(t, s, n)
	n.Grants[0].Role = access.RoleSystem
	token.Grants[0].Role = access.RoleSystem
	got, err := s.FindToken(t.Context(), n.Digest)
	if err != nil || got.Grants[0].Role != access.RoleViewer {
		t.Fatalf("the grants are %v, %v", got.Grants, err)
	}
	got.Grants[0].Role = access.RoleSystem
	if got, err = s.FindToken(t.Context(), n.Digest); err != nil || got.Grants[0].Role != access.RoleViewer {
		t.Errorf("the grants are %v, %v", got.Grants, err)
	}
}

func testTokenCanceled(t *testing.T, s TokenStore) {
	n := issueToken(t, "late", 0, "viewer@billing")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CreateToken(ended, n); !errors.Is(err, queue.ErrCanceled) {
		t.Errorf("a create with an ended context gives %v", err)
	}
	if _, err := s.FindToken(ended, n.Digest); !errors.Is(err, queue.ErrCanceled) {
		t.Errorf("a find with an ended context gives %v", err)
	}
	if _, err := s.GetToken(t.Context(), n.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the token is stored: %v", err)
	}
}

func testTokenRotateRace(t *testing.T, s TokenStore) {
	old := createToken(t, s, issueToken(t, "old", 0, "viewer@billing"))
	const rotations = 8
	errs := make([]error, rotations)
	var all sync.WaitGroup
	for i := range rotations {
		n := issueToken(t, "new", 0, "viewer@billing")
		n.Replaces = old.ID
		all.Go(func() { _, errs[i] = s.CreateToken(t.Context(), n) })
	}
	all.Wait()

	succeeded := 0
	for _, err := range errs {
		switch {
		case err == nil:
			succeeded++
		case !errors.Is(err, queue.ErrConflict):
			t.Errorf("a lost rotation gives %v", err)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d rotations without an overlap succeeded, want 1", succeeded)
	}
}

func testTokenLimitRace(t *testing.T, s TokenStore) {
	const room = 100
	ended := createToken(t, s, issueToken(t, "ended", 0, "viewer@billing"))
	if _, err := s.RevokeToken(t.Context(), ended.ID); err != nil {
		t.Fatal(err)
	}
	if s.Fill != nil {
		s.Fill(t, access.MaxTokens-room)
	} else {
		for range access.MaxTokens - room {
			createToken(t, s, issueToken(t, "live", 0, "viewer@billing"))
		}
	}

	creates := make([]access.NewToken, 150)
	for i := range creates {
		creates[i] = issueToken(t, "new", 0, "viewer@billing")
	}
	countCreates(t, room, func(i int) error {
		_, err := s.CreateToken(t.Context(), creates[i])
		return err
	})
}

func testTokenDigests(t *testing.T, s TokenStore) {
	live, forever, expiring, revoked := issueToken(t, "live", time.Hour, "viewer@own"), issueToken(t, "forever", 0, "viewer@own"), issueToken(t, "expiring", time.Minute, "viewer@own"), issueToken(t, "revoked", 0, "viewer@own")
	for _, n := range []access.NewToken{live, forever, expiring, revoked} {
		createToken(t, s, n)
	}
	if _, err := s.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	s.Advance(2 * time.Minute)
	digests, err := s.LiveTokenDigests(t.Context())
	if err != nil || !sameDigests(digests, live.Digest, forever.Digest) {
		t.Errorf("got %x, %v", digests, err)
	}
}

// sameDigests reports whether got has the digests of want, each once, in any order.
func sameDigests(got [][sha256.Size]byte, want ...[sha256.Size]byte) bool {
	for _, d := range want {
		if !slices.Contains(got, d) {
			return false
		}
	}
	return len(got) == len(want)
}
