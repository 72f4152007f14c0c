package access_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// issuers verifies texts of the form ISSUER.SUBJECT.GROUP for an hour.
type issuers struct {
	checks  atomic.Int64
	trusted atomic.Bool
	fault   atomic.Pointer[queue.Error]
}

func newIssuers() *issuers {
	i := &issuers{}
	i.trusted.Store(true)
	return i
}

func (i *issuers) Verify(_ context.Context, text string) (access.Proof, error) {
	i.checks.Add(1)
	if fault := i.fault.Load(); fault != nil {
		return access.Proof{}, fault
	}
	parts := strings.Split(text, ".")
	return access.Proof{
		Kind: access.KindJWT, Issuer: company, Subject: parts[1], Claims: map[string][]string{"groups": {parts[2]}},
		Expires: time.Now().Add(time.Hour), Trusted: i.trusted.Load,
	}, nil
}

func TestJWTAuthenticator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verifier, mapping := newIssuers(), newMapping(t)
		a := access.NewJWTAuthenticator(verifier, mapping)
		authenticate := func() *access.Principal {
			t.Helper()
			p, err := a.Authenticate(t.Context(), "a.alice.sre")
			if err != nil {
				t.Fatal(err)
			}
			return p
		}

		first := authenticate()
		if !first.May(queue.ActionQueueManage, "any", "") || first.Subject != "alice" || first.Kind != access.KindJWT {
			t.Errorf("principal %+v", first)
		}
		time.Sleep(time.Hour - time.Nanosecond)
		if authenticate() != first || verifier.checks.Load() != 1 {
			t.Errorf("%d checks of one JWT", verifier.checks.Load())
		}

		time.Sleep(time.Nanosecond)
		if a.Confirm(first) == nil {
			t.Error("an expired JWT must not be confirmed")
		}
		second := authenticate() // the verifier of this test renews it
		if second == first || verifier.checks.Load() != 2 {
			t.Errorf("%d checks after the end", verifier.checks.Load())
		}

		mapping.Replace(nil)
		if a.Confirm(second) == nil {
			t.Error("after a change of rules a principal must not be confirmed")
		}
		third := authenticate()
		if third.May(queue.ActionQueueRead, "any", "") || verifier.checks.Load() != 3 {
			t.Error("new rules must count at once")
		}

		verifier.trusted.Store(false)
		if a.Confirm(third) == nil {
			t.Error("without trust in the issuer a principal must not be confirmed")
		}
		if _, err := a.Authenticate(t.Context(), "a.alice.sre"); !errors.Is(err, queue.ErrUnauthenticated) {
			t.Errorf("an issuer that lost its trust during the check: %v", err)
		}
	})
}

// TestJWTAuthenticatorRefuses: the text for the caller is one, the cause stays.
func TestJWTAuthenticatorRefuses(t *testing.T) {
	verifier := newIssuers()
	a := access.NewJWTAuthenticator(verifier, newMapping(t))
	verifier.fault.Store(&queue.Error{Kind: queue.KindUnauthenticated, Msg: "of the verifier", Err: &access.ClaimError{Issuer: company, Subject: "alice", Err: errors.New("no luck")}})
	_, err := a.Authenticate(t.Context(), "a.alice.sre")
	e, _ := errors.AsType[*queue.Error](err)
	claimed, ok := errors.AsType[*access.ClaimError](err)
	if e == nil || e.Kind != queue.KindUnauthenticated || strings.Contains(e.Msg, "verifier") || !ok || claimed.Subject != "alice" || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("got %v", err)
	}

	verifier.fault.Store(&queue.Error{Kind: queue.KindUnavailable})
	if _, err := a.Authenticate(t.Context(), "a.alice.sre"); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("an issuer that does not answer: %v", err)
	}
	verifier.fault.Store(nil)
	if _, err := a.Authenticate(t.Context(), "a..sre"); !errors.Is(err, queue.ErrUnauthenticated) {
		t.Errorf("a JWT without a subject: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), "a.alice.sre"); err != nil {
		t.Errorf("a refusal must not stay: %v", err)
	}
}

// TestJWTAuthenticatorIsBounded: many different JWTs of many callers at once.
func TestJWTAuthenticatorIsBounded(t *testing.T) {
	verifier := newIssuers()
	a := access.NewJWTAuthenticator(verifier, newMapping(t))
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for i := range 2_000 {
				text := "a.s" + strconv.Itoa(c) + "-" + strconv.Itoa(i) + ".sre"
				for range 2 {
					if _, err := a.Authenticate(t.Context(), text); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	callers.Wait()
	if n := a.Known(); n > 10_000 || verifier.checks.Load() < 16_000 {
		t.Errorf("%d known after %d checks", n, verifier.checks.Load())
	}
}

func BenchmarkJWTAuthenticator(b *testing.B) {
	a := access.NewJWTAuthenticator(newIssuers(), &access.Mapping{})
	text := strings.Repeat("a", 800) + ".alice.sre"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(b.Context(), text); err != nil {
			b.Fatal(err)
		}
	}
}
