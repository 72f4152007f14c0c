package run

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// heldLookups is a store in which each look-up of a made-up credential waits.
type heldLookups struct {
	*memory.Store
	entered chan struct{}
}

func (h *heldLookups) hold(ctx context.Context) error {
	h.entered <- struct{}{}
	<-ctx.Done()
	return queue.ContextError(ctx.Err())
}

func (h *heldLookups) FindToken(ctx context.Context, digest [sha256.Size]byte) (access.Token, error) {
	if t, err := h.Store.FindToken(ctx, digest); err == nil {
		return t, nil
	}
	return access.Token{}, h.hold(ctx)
}

func (h *heldLookups) FindSession(ctx context.Context, digest [sha256.Size]byte) (access.Session, error) {
	return access.Session{}, h.hold(ctx)
}

func (h *heldLookups) RedeemCode(ctx context.Context, r access.Redemption) (access.Session, error) {
	return access.Session{}, h.hold(ctx)
}

// TestTheLimitOfLookupsOverHTTP: with 1,000 look-ups of one address under way, one more made-up credential gets 429 with Retry-After, in
// the same way by each transport, and counts as no refused one. A valid token that the server has not seen passes.
func TestTheLimitOfLookupsOverHTTP(t *testing.T) {
	held := &heldLookups{memory.New(), make(chan struct{}, 10_000)}
	cfg := newSlow().config(io.Discard)
	cfg.AdminToken = access.NewSecret().Reveal()
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return held, func(context.Context) error { return nil }, nil
	}
	s := start(t, cfg)
	valid := issueThrough(t, s, cfg.AdminToken).Secret.Reveal()

	const remote = "127.0.0.1:1000"
	ctx, cancel := context.WithCancel(access.WithCaller(t.Context(), access.Caller{Remote: remote}))
	var flood sync.WaitGroup
	defer flood.Wait()
	defer cancel()
	full := make(chan struct{}, 4000)
	for range 1100 {
		flood.Go(func() {
			_, _ = s.control.auth.Authenticate(ctx, access.NewSecret().Reveal())
			full <- struct{}{}
		})
		flood.Go(func() {
			_, _ = s.control.sessions.OpenSession(ctx, access.SignIn{Code: makeUp("pgc")})
			full <- struct{}{}
		})
	}
	for range 200 { // those beyond the limit
		<-full
	}

	made := func() string { return access.NewSecret().Reveal() }
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		status             int
		retry              string
		kind               string
	}{
		"REST":              {"GET", "/api/queue", "", []string{"Authorization", "Bearer " + made()}, 429, "1", "unavailable"},
		"events":            {"GET", "/api/event", "", []string{"Authorization", "Bearer " + made(), "Accept", "text/event-stream"}, 429, "1", "unavailable"},
		"a cookie":          {"GET", "/api/queue", "", []string{"Cookie", s.cookieName() + "=" + makeUp("pgs")}, 429, "1", "unavailable"},
		"Connect":           {"POST", "/pgqueue.v1.QueueService/ListQueues", "{}", []string{"Authorization", "Bearer " + made()}, 429, "1", "unavailable"},
		"gRPC":              {"POST", "/pgqueue.v1.QueueService/ListQueues", "", []string{"Authorization", "Bearer " + made(), "Content-Type", "application/grpc"}, 200, "1", ""},
		"POST with a token": {"POST", "/api/session", `{"token":"` + made() + `"}`, nil, 429, "1", "unavailable"},
		"POST with a code":  {"POST", "/api/session", `{"code":"` + makeUp("pgc") + `"}`, nil, 429, "1", "unavailable"},
		"a valid token":     {"GET", "/api/queue", "", []string{"Authorization", "Bearer " + valid}, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(within, c.method, s.URL()+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(c.header); i += 2 {
				r.Header.Set(c.header[i], c.header[i+1])
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			var answer struct{ Kind, Code string }
			_ = json.Unmarshal(text, &answer)
			if resp.StatusCode != c.status || resp.Header.Get("Retry-After") != c.retry || c.kind != "" && answer.Kind+answer.Code != c.kind {
				t.Errorf("%d, Retry-After %q, %s", resp.StatusCode, resp.Header.Get("Retry-After"), text)
			}
			if name == "gRPC" && resp.Header.Get("Grpc-Status") != "14" {
				t.Errorf("the status of gRPC is %q", resp.Header.Get("Grpc-Status"))
			}
		})
	}
	if s.control.refusals.Exceeds(remote, time.Now()) {
		t.Error("they count as refused")
	}
}

// makeUp returns a made-up secret with a prefix and its checksum.
func makeUp(prefix string) string {
	const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text := access.NewSecret().Reveal()
	text = prefix + text[len(prefix):len(text)-6]
	sum, letters := crc32.ChecksumIEEE([]byte(text)), []byte("000000")
	for i := 5; i >= 0; i-- {
		letters[i] = base62[sum%62]
		sum /= 62
	}
	return text + string(letters)
}

// cookieName returns the name of the cookie of a session.
func (s *Server) cookieName() string {
	_, port, _ := strings.Cut(s.Addr().String(), ":")
	return "pgqueue-" + port
}
