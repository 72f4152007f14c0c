package queuetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// SessionStore is a store of sessions and of the tokens that open them under test. Advance moves its clock ahead.
type SessionStore struct {
	access.SessionStore
	access.Tokens
	Advance func(time.Duration)
}

// TestSessions holds the stores that open returns, each empty, to the contract of [access.SessionStore].
func TestSessions(t *testing.T, open func(t *testing.T) SessionStore) {
	for name, test := range map[string]func(*testing.T, SessionStore){
		"a session is found by its digest and by its id":                     testSessionFind,
		"a session ends with its life":                                       testSessionLife,
		"a session ends after its idle time, and a use moves that":           testSessionIdle,
		"an ended session stays ended, and no use revives it":                testSessionEnd,
		"a session ends with the token that opened it":                       testSessionToken,
		"a session ends with the credential of its opener":                   testSessionWithin,
		"a code is not a session, and opens one, once":                       testCode,
		"a code is worth nothing after its life, or after that of a token":   testCodeEnds,
		"of many redemptions of one code at once exactly one succeeds":       testCodeRace,
		"the list has the live sessions, the newest first":                   testSessionList,
		"one principal has a limit of live sessions, which hinders no other": testSessionLimit,
		"of 150 creates at once exactly the limit succeed":                   testSessionLimitRace,
		"sessions that ended in any way do not count against that limit":     testSessionLimitCountsLive,
		"the digests are those of the live sessions and codes":               testSessionDigests,
		"an id exists once": testSessionTwice,
		"sessions that ended long ago are removed, and no others":   testSessionPrune,
		"a change by the caller after a call is not stored":         testSessionAliasing,
		"an ended context answers KindCanceled and changes nothing": testSessionCanceled,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// newSession returns a session of a viewer that no store knows, to be changed by the test.
func newSession(name string) access.NewSession {
	return access.NewSession{
		ID: fmt.Sprintf("%-8.8s", name), Digest: sha256.Sum256([]byte(name)), Life: 12 * time.Hour, Idle: time.Hour,
		Opener: access.Opener{
			PrincipalID: "ann@issuer", Kind: access.KindJWT, Name: "Ann", Grants: []access.Grant{{Role: access.RoleViewer, Namespace: "billing"}},
			Issuer: "https://issuer.example", Subject: "ann", Basis: []string{"a rule", "another rule"},
		},
	}
}

func createSession(t *testing.T, s SessionStore, n access.NewSession) access.Session {
	t.Helper()
	made, err := s.CreateSession(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// checkLive checks whether a session is live.
func checkLive(t *testing.T, s SessionStore, n access.NewSession, when string, want bool) {
	t.Helper()
	found, err := s.FindSession(t.Context(), n.Digest)
	if err != nil || found.Live() != want {
		t.Errorf("%s: found %+v, %v; want live %v", when, found, err, want)
	}
}

func testSessionFind(t *testing.T, s SessionStore) {
	n := newSession("first")
	made := createSession(t, s, n)
	if !made.Live() || made.ID != n.ID || made.Name != "Ann" || made.PrincipalID != n.PrincipalID || made.Kind != access.KindJWT ||
		made.Issuer != n.Issuer || made.Subject != "ann" || !slices.Equal(made.Grants, n.Grants) || !slices.Equal(made.Basis, n.Basis) || made.Idle != time.Hour ||
		made.ExpiresAt.Sub(made.CreatedAt) != n.Life || !made.UsedAt.Equal(made.CreatedAt) || made.TokenStored {
		t.Errorf("made %+v", made)
	}

	same := func(a access.Session, err error) bool {
		return err == nil && a.ID == made.ID && a.CreatedAt.Equal(made.CreatedAt) && a.ExpiresAt.Equal(made.ExpiresAt) && slices.Equal(a.Grants, made.Grants) && slices.Equal(a.Basis, made.Basis)
	}
	if found, err := s.FindSession(t.Context(), n.Digest); !same(found, err) {
		t.Errorf("found %+v, %v; want %+v", found, err, made)
	}
	if got, err := s.GetSession(t.Context(), n.ID); !same(got, err) {
		t.Errorf("got %+v, %v; want %+v", got, err, made)
	}

	other := newSession("other")
	for what, find := range map[string]func() error{
		"digest":    func() error { _, err := s.FindSession(t.Context(), other.Digest); return err },
		"id":        func() error { _, err := s.GetSession(t.Context(), other.ID); return err },
		"id of end": func() error { _, err := s.EndSession(t.Context(), other.ID); return err },
	} {
		if err := find(); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("an unknown %s gives %v", what, err)
		}
	}
	if err := s.TouchSession(t.Context(), other.ID); err != nil {
		t.Errorf("a use of an unknown session gives %v", err)
	}
}

func testSessionLife(t *testing.T, s SessionStore) {
	n := newSession("short")
	n.Life = 90 * time.Minute
	createSession(t, s, n)
	for range 2 {
		s.Advance(40 * time.Minute)
		if err := s.TouchSession(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
	}
	checkLive(t, s, n, "before its end", true)
	s.Advance(20 * time.Minute)
	checkLive(t, s, n, "after its end, though in use", false)
}

func testSessionIdle(t *testing.T, s SessionStore) {
	n := newSession("idle")
	createSession(t, s, n)
	s.Advance(50 * time.Minute)
	checkLive(t, s, n, "before an idle hour", true)
	if err := s.TouchSession(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	s.Advance(50 * time.Minute)
	checkLive(t, s, n, "within an hour of its use", true)
	s.Advance(20 * time.Minute)
	checkLive(t, s, n, "after an idle hour", false)

	if err := s.TouchSession(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	checkLive(t, s, n, "used after its idle hour", false)
}

func testSessionEnd(t *testing.T, s SessionStore) {
	n := newSession("ended")
	createSession(t, s, n)
	ended, err := s.EndSession(t.Context(), n.ID)
	if err != nil || ended.Live() || ended.EndedAt.IsZero() {
		t.Fatalf("ended %+v, %v", ended, err)
	}
	s.Advance(time.Minute)
	if err := s.TouchSession(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	again, err := s.EndSession(t.Context(), n.ID)
	if err != nil || !again.EndedAt.Equal(ended.EndedAt) || !again.UsedAt.Equal(ended.UsedAt) {
		t.Errorf("ended again %+v, %v; want the first end", again, err)
	}
}

// openByToken returns a session that a stored token with a life opens.
func openByToken(t *testing.T, s SessionStore, name string, life time.Duration) (access.Token, access.NewSession) {
	t.Helper()
	token := createToken(t, TokenStore{Tokens: s.Tokens}, issueToken(t, name, life, "viewer@billing"))
	n := newSession(name)
	n.Opener = access.Opener{PrincipalID: token.ID, Kind: access.KindToken, Name: name, Grants: token.Grants}
	return token, n
}

func testSessionToken(t *testing.T, s SessionStore) {
	token, n := openByToken(t, s, "revoked", 0)
	if made := createSession(t, s, n); !made.TokenStored || !made.Live() {
		t.Errorf("made %+v", made)
	}
	revoked, err := s.RevokeToken(t.Context(), token.ID)
	if err != nil {
		t.Fatal(err)
	}
	checkLive(t, s, n, "after the revocation of its token", false)
	if got, err := s.GetSession(t.Context(), n.ID); err != nil || !got.EndedAt.Equal(revoked.RevokedAt) {
		t.Errorf("got %+v, %v; want the time of the revocation", got, err)
	}

	token, n = openByToken(t, s, "expiring", 30*time.Minute)
	if made := createSession(t, s, n); !made.ExpiresAt.Equal(token.ExpiresAt) {
		t.Errorf("the session ends at %v, its token at %v", made.ExpiresAt, token.ExpiresAt)
	}
	s.Advance(31 * time.Minute)
	checkLive(t, s, n, "after the end of its token", false)

	// A rotation shortens the life of the former token, and that of its sessions.
	token, n = openByToken(t, s, "rotated", 0)
	createSession(t, s, n)
	next := issueToken(t, "next", 0, "viewer@billing")
	next.Replaces = token.ID
	createToken(t, TokenStore{Tokens: s.Tokens}, next)
	s.Advance(time.Second)
	checkLive(t, s, n, "after the rotation of its token without an overlap", false)
}

func testSessionWithin(t *testing.T, s SessionStore) {
	n := newSession("within")
	n.Within = 10 * time.Minute
	createSession(t, s, n)
	s.Advance(9 * time.Minute)
	checkLive(t, s, n, "before the end of the credential", true)
	s.Advance(2 * time.Minute)
	checkLive(t, s, n, "after the end of the credential", false)
}

// redemptionOf makes the code n into a session.
func redemptionOf(n access.NewSession, name string) access.Redemption {
	opened := newSession(name)
	return access.Redemption{Code: n.Digest, ID: opened.ID, Digest: opened.Digest, Life: 12 * time.Hour, Idle: time.Hour}
}

func testCode(t *testing.T, s SessionStore) {
	code := newSession("code")
	code.IsCode, code.Life = true, time.Minute
	createSession(t, s, code)
	if _, err := s.FindSession(t.Context(), code.Digest); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the code as a session gives %v", err)
	}
	if _, err := s.GetSession(t.Context(), code.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the id of the code as a session gives %v", err)
	}

	s.Advance(50 * time.Second)
	r := redemptionOf(code, "opened")
	made, err := s.RedeemCode(t.Context(), r)
	if err != nil || !made.Live() || made.ID != r.ID || made.PrincipalID != code.PrincipalID || made.Subject != "ann" ||
		!slices.Equal(made.Grants, code.Grants) || made.ExpiresAt.Sub(made.CreatedAt) != r.Life || !made.UsedAt.Equal(made.CreatedAt) {
		t.Fatalf("redeemed %+v, %v", made, err)
	}
	if found, err := s.FindSession(t.Context(), r.Digest); err != nil || found.ID != r.ID {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := s.RedeemCode(t.Context(), redemptionOf(code, "second")); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a second use of the code gives %v", err)
	}

	// A session is not a code.
	n := newSession("session")
	createSession(t, s, n)
	if _, err := s.RedeemCode(t.Context(), redemptionOf(n, "third")); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a session as a code gives %v", err)
	}
}

func testCodeEnds(t *testing.T, s SessionStore) {
	code := newSession("late")
	code.IsCode, code.Life = true, time.Minute
	createSession(t, s, code)
	s.Advance(61 * time.Second)
	if _, err := s.RedeemCode(t.Context(), redemptionOf(code, "opened")); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("an expired code gives %v", err)
	}

	token, code := openByToken(t, s, "revoked", 0)
	code.IsCode, code.Life = true, time.Minute
	createSession(t, s, code)
	if _, err := s.RevokeToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RedeemCode(t.Context(), redemptionOf(code, "opened")); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the code of a revoked token gives %v", err)
	}

	code = newSession("within")
	code.IsCode, code.Life, code.Within = true, time.Minute, 10*time.Second
	createSession(t, s, code)
	s.Advance(11 * time.Second)
	if _, err := s.RedeemCode(t.Context(), redemptionOf(code, "opened")); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the code of an ended credential gives %v", err)
	}

	code = newSession("idle")
	code.IsCode, code.Life, code.Idle = true, time.Minute, 10*time.Second
	createSession(t, s, code)
	s.Advance(11 * time.Second)
	if _, err := s.RedeemCode(t.Context(), redemptionOf(code, "opened")); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the code after its idle time gives %v", err)
	}
}

func testCodeRace(t *testing.T, s SessionStore) {
	code := newSession("code")
	code.IsCode, code.Life = true, time.Minute
	createSession(t, s, code)
	const callers = 8
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		r := redemptionOf(code, fmt.Sprintf("opened%d", i))
		all.Go(func() { _, errs[i] = s.RedeemCode(t.Context(), r) })
	}
	all.Wait()

	succeeded := 0
	for _, err := range errs {
		switch {
		case err == nil:
			succeeded++
		case !errors.Is(err, queue.ErrNotFound):
			t.Errorf("a lost redemption gives %v", err)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d redemptions succeeded, want 1", succeeded)
	}
}

func testSessionList(t *testing.T, s SessionStore) {
	if list, err := s.ListSessions(t.Context()); err != nil || list == nil || len(list) != 0 {
		t.Fatalf("an empty store lists %v, %v", list, err)
	}
	code := newSession("code")
	code.IsCode, code.Life = true, time.Minute
	createSession(t, s, code)
	token, revoked := openByToken(t, s, "revoked", 0)
	createSession(t, s, revoked)
	if _, err := s.RevokeToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	ended, expired := newSession("ended"), newSession("expired")
	expired.Life = 30 * time.Second
	createSession(t, s, ended)
	createSession(t, s, expired)
	if _, err := s.EndSession(t.Context(), ended.ID); err != nil {
		t.Fatal(err)
	}

	var want []string
	for _, name := range []string{"first", "second", "third"} {
		n := newSession(name)
		createSession(t, s, n)
		want = append(want, n.ID)
		s.Advance(time.Minute)
	}
	slices.Reverse(want)
	list, err := s.ListSessions(t.Context())
	var got []string
	for _, one := range list {
		got = append(got, one.ID)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("listed %v, %v; want %v", got, err, want)
	}
}

func testSessionLimit(t *testing.T, s SessionStore) {
	for i := range access.MaxSessions {
		n := newSession(fmt.Sprint("s", i))
		n.IsCode = i%2 == 0
		createSession(t, s, n)
	}
	n := newSession("more")
	if _, err := s.CreateSession(t.Context(), n); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("one more gives %v", err)
	}
	if _, err := s.GetSession(t.Context(), n.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the refused session is stored: %v", err)
	}
	other := newSession("other")
	other.PrincipalID = "bob@issuer"
	createSession(t, s, other)

	if _, err := s.EndSession(t.Context(), newSession("s1").ID); err != nil {
		t.Fatal(err)
	}
	createSession(t, s, n)
}

func testSessionLimitRace(t *testing.T, s SessionStore) {
	countCreates(t, access.MaxSessions, func(i int) error {
		n := newSession(fmt.Sprint("s", i))
		n.IsCode = i%2 == 0
		_, err := s.CreateSession(t.Context(), n)
		return err
	})
}

// countCreates makes 150 creates at once and wants all beyond a limit to be refused.
func countCreates(t *testing.T, limit int, create func(i int) error) {
	t.Helper()
	errs := make([]error, 150)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = create(i) })
	}
	all.Wait()

	succeeded := 0
	for _, err := range errs {
		switch {
		case err == nil:
			succeeded++
		case !errors.Is(err, queue.ErrConflict):
			t.Errorf("a create beyond the limit gives %v", err)
		}
	}
	if succeeded != limit {
		t.Errorf("%d of %d creates succeeded, want %d", succeeded, len(errs), limit)
	}
}

func testSessionLimitCountsLive(t *testing.T, s SessionStore) {
	revoked, byRevoked := openByToken(t, s, "revoked", 0)
	_, byExpiring := openByToken(t, s, "expiring", 10*time.Minute)
	short, idle, jwt := newSession("short"), newSession("idle"), newSession("jwt")
	short.PrincipalID, idle.PrincipalID, jwt.PrincipalID = "short@issuer", "idle@issuer", "jwt@issuer"
	short.Life, idle.Idle, jwt.Within = 10*time.Minute, 10*time.Minute, 10*time.Minute

	create := func(n access.NewSession, i int) error {
		secret := sha256.Sum256(fmt.Append(nil, n.PrincipalID, i))
		n.ID, n.Digest, n.IsCode = hex.EncodeToString(secret[:4]), secret, i%2 == 0
		_, err := s.CreateSession(t.Context(), n)
		return err
	}
	all := map[string]access.NewSession{
		"the end of its life": short, "its idle time": idle, "the end of the JWT of its opener": jwt,
		"the end of its token": byExpiring, "the revocation of its token": byRevoked,
	}
	for end, n := range all {
		for i := range access.MaxSessions {
			if err := create(n, i); err != nil {
				t.Fatalf("%s: session %d: %v", end, i, err)
			}
		}
		if err := create(n, access.MaxSessions); !errors.Is(err, queue.ErrConflict) {
			t.Errorf("before %s one more gives %v", end, err)
		}
	}

	if _, err := s.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	s.Advance(11 * time.Minute)
	for end, n := range all {
		if err := create(n, access.MaxSessions+1); err != nil {
			t.Errorf("after %s one more gives %v", end, err)
		}
	}
}

func testSessionTwice(t *testing.T, s SessionStore) {
	n := newSession("first")
	createSession(t, s, n)
	other := newSession("second")
	other.ID = n.ID
	if _, err := s.CreateSession(t.Context(), other); !errors.Is(err, queue.ErrAlreadyExists) {
		t.Errorf("a second session with the id gives %v", err)
	}
}

func testSessionPrune(t *testing.T, s SessionStore) {
	ended, idle, expired, code, live := newSession("ended"), newSession("idle"), newSession("expired"), newSession("code"), newSession("live")
	within := newSession("within")
	within.Idle, within.Life, within.Within = 100*time.Hour, 100*time.Hour, 30*time.Minute
	idle.Life, expired.Life, code.Life, live.Life = 100*time.Hour, 30*time.Minute, time.Minute, 100*time.Hour
	live.Idle = 100 * time.Hour
	code.IsCode = true
	for _, n := range []access.NewSession{ended, idle, expired, code, within, live} {
		createSession(t, s, n)
	}
	if _, err := s.EndSession(t.Context(), ended.ID); err != nil {
		t.Fatal(err)
	}

	s.Advance(access.SessionRetention - time.Minute)
	if removed, more, err := s.PruneSessions(t.Context()); removed != 0 || more || err != nil {
		t.Errorf("within the retention: removed %d, %v, %v", removed, more, err)
	}
	s.Advance(2 * time.Hour)
	if removed, more, err := s.PruneSessions(t.Context()); removed != 5 || more || err != nil {
		t.Errorf("after the retention: removed %d, %v, %v; want 5", removed, more, err)
	}
	checkLive(t, s, live, "after the prune", true)
}

func testSessionAliasing(t *testing.T, s SessionStore) {
	n := newSession("aliased")
	made := createSession(t, s, n)
	n.Grants[0].Role = access.RoleSystem
	made.Grants[0].Role = access.RoleSystem
	n.Basis[0], made.Basis[1] = "changed", "changed"
	if got, err := s.FindSession(t.Context(), n.Digest); err != nil || got.Grants[0].Role != access.RoleViewer || slices.Contains(got.Basis, "changed") {
		t.Errorf("the session is %+v, %v", got, err)
	}
}

func testSessionCanceled(t *testing.T, s SessionStore) {
	n := newSession("late")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CreateSession(ended, n); !errors.Is(err, queue.ErrCanceled) {
		t.Errorf("a create with an ended context gives %v", err)
	}
	if _, err := s.FindSession(ended, n.Digest); !errors.Is(err, queue.ErrCanceled) {
		t.Errorf("a find with an ended context gives %v", err)
	}
	if _, err := s.GetSession(t.Context(), n.ID); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("the session is stored: %v", err)
	}
}

func testSessionDigests(t *testing.T, s SessionStore) {
	live, code, ended, idle, used := newSession("live"), newSession("code"), newSession("ended"), newSession("idle"), newSession("used")
	code.IsCode, used.IsCode, idle.Idle = true, true, time.Minute
	for _, n := range []access.NewSession{live, code, ended, idle, used} {
		createSession(t, s, n)
	}
	revoked, byToken := openByToken(t, s, "revoked", 0)
	createSession(t, s, byToken)
	if _, err := s.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EndSession(t.Context(), ended.ID); err != nil {
		t.Fatal(err)
	}
	opened := redemptionOf(used, "opened")
	if _, err := s.RedeemCode(t.Context(), opened); err != nil {
		t.Fatal(err)
	}
	s.Advance(2 * time.Minute)
	digests, err := s.LiveSessionDigests(t.Context())
	if err != nil || !sameDigests(digests, live.Digest, code.Digest, opened.Digest) {
		t.Errorf("got %x, %v", digests, err)
	}
}
