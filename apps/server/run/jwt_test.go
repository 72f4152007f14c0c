package run

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// contains reports whether the log has a text.
func (l *lines) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.buf.Bytes(), []byte(text))
}

// ways are the ways in: single calls, the stream of server-sent events, and the stream of a worker, which needs HTTP/2.
var ways = slices.Concat(callWays, []string{"sse"}, streamWays)

var (
	callWays   = []string{"rest", "connect", "grpc", "grpcweb"}
	streamWays = []string{"connect stream", "grpc stream"}
	// workWays are those in which a worker retains tasks.
	workWays = slices.Concat(callWays, streamWays)
)

// consumerAs returns a client for the retains of a worker, by one of workWays.
func consumerAs(t *testing.T, s *Server, way, token string) queue.Consumer {
	t.Helper()
	protocol, isStream := strings.CutSuffix(way, " stream")
	client := dialAs(t, s, protocol, token)
	if !isStream {
		return client
	}
	stream := connectclient.NewStream(client.(*connectclient.Client))
	t.Cleanup(stream.Close)
	return stream
}

// retainAs retains a task of the queue mail, or reads the stream of events, by one of the ways.
func retainAs(t *testing.T, s *Server, way, token string) error {
	t.Helper()
	if way == "sse" {
		return dialAs(t, s, "rest", token).SubscribeEvents(t.Context(), queue.EventFilter{}, func(queue.Event) error { return errDone })
	}
	_, err := consumerAs(t, s, way, token).RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Limit: 1})
	return err
}

// startWithIssuer starts a server with a queue mail that trusts an issuer: the service accounts of the namespace mail work the
// queue, and the group sre manages all.
func startWithIssuer(t *testing.T, issuer *oidctest.Issuer, log io.Writer) (s *Server, admin string, accessFile string) {
	t.Helper()
	store := newSlow()
	close(store.leave)
	cfg := store.config(log)
	audited := &auditedStore{store.Store.(*memory.Store), memory.NewAudit(nil)}
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return audited, func(context.Context) error { return nil }, nil
	}
	admin = access.NewSecret().Reveal()
	cfg.AdminToken = admin
	cfg.confirmEvery, cfg.watchEvery = 100*time.Millisecond, 100*time.Millisecond
	cfg.AccessFile = writeFile(t, accessFileOf(issuer, "worker@default/mail*"))
	s = start(t, cfg)
	if _, err := dialAs(t, s, "rest", admin).CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	return s, admin, cfg.AccessFile
}

func accessFileOf(issuer *oidctest.Issuer, grant string) string {
	return fmt.Sprintf(`issuers:
  - {issuer: %[1]q, audience: pgqueue, name: email}
rules:
  - {issuer: %[1]q, claim: sub, is: "system:serviceaccount:mail:*", grant: [%q]}
  - {issuer: %[1]q, claim: groups, is: sre, grant: [admin@*]}
`, issuer.URL(), grant)
}

// projectedToken returns the claims of a token that Kubernetes projects into a pod.
func projectedToken(issuer *oidctest.Issuer, namespace, account string) map[string]any {
	claims := issuer.Claims("pgqueue", "system:serviceaccount:"+namespace+":"+account)
	claims["aud"] = []string{"pgqueue"}
	claims["nbf"] = claims["iat"]
	claims["jti"] = "9b7f3b5c-6f0e-4c26-9d6a-0a4d2d1f3c11"
	claims["kubernetes.io"] = map[string]any{
		"namespace": namespace, "node": map[string]any{"name": "n1", "uid": "6a"}, "pod": map[string]any{"name": "sender-7d", "uid": "5e"},
		"serviceaccount": map[string]any{"name": account, "uid": "b1"},
	}
	return claims
}

// TestServiceAccounts: a pod of Kubernetes works with the token that is projected into it, and with no other right.
func TestServiceAccounts(t *testing.T) {
	issuer := oidctest.Start(t)
	key := issuer.Rotate(oidctest.RS256)
	s, admin, _ := startWithIssuer(t, issuer, io.Discard)
	pod := key.Sign(t, `{"alg":"RS256","kid":"`+key.ID+`"}`, oidctest.Text(t, projectedToken(issuer, "mail", "sender")))
	foreign := key.Mint(t, projectedToken(issuer, "web", "front"))

	for _, way := range workWays {
		created, err := dialAs(t, s, "rest", admin).CreateTask(t.Context(), "mail", queue.TaskMeta{})
		if err != nil {
			t.Fatal(err)
		}
		retained, err := consumerAs(t, s, way, pod).RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Limit: 1})
		if err != nil || len(retained) != 1 || retained[0].ID != created.ID {
			t.Errorf("over %s the pod retains %d tasks: %v", way, len(retained), err)
		}
		protocol := strings.TrimSuffix(way, " stream")
		if _, err := dialAs(t, s, protocol, pod).CreateTask(t.Context(), "mail", queue.TaskMeta{}); queue.KindOf(err) != queue.KindDenied {
			t.Errorf("over %s the pod creates a task: %v", way, err)
		}
		if err := retainAs(t, s, way, foreign); queue.KindOf(err) != queue.KindDenied {
			t.Errorf("over %s a pod of another namespace: %v", way, err)
		}
	}

	id, err := dialAs(t, s, "rest", pod).(access.Admin).WhoAmI(t.Context())
	if err != nil || id.Kind != access.KindJWT || id.ID != "system:serviceaccount:mail:sender@"+issuer.URL() {
		t.Errorf("the pod is %+v: %v", id, err)
	}
	if n := issuer.Requests(oidctest.KeysPath); n != 1 {
		t.Errorf("%d requests for the keys", n)
	}
}

// TestBadJWTsOverTransports sends each wrong JWT over each way in, and expects one kind and one text.
func TestBadJWTsOverTransports(t *testing.T) {
	issuer, other := oidctest.Start(t), oidctest.Start(t)
	key := issuer.Rotate(oidctest.RS256)
	good := projectedToken(issuer, "mail", "sender")
	good["groups"] = []string{"sre"}
	whole := key.Mint(t, good)
	parts := strings.Split(whole, ".")
	stranger := oidctest.NewKey(t, key.ID, oidctest.RS256)
	header := func(name string, value any) string {
		h := key.Header()
		h[name] = value
		return oidctest.Text(t, h)
	}
	claim := func(name string, value any) string {
		c := maps.Clone(good)
		c[name] = value
		return key.Mint(t, c)
	}
	without := func(name string) string {
		c := maps.Clone(good)
		delete(c, name)
		return key.Mint(t, c)
	}
	encode := base64.RawURLEncoding.EncodeToString
	confused := encode([]byte(header("alg", "HS256"))) + "." + parts[1]
	mac := hmac.New(sha256.New, []byte(oidctest.Text(t, key.JWK())))
	mac.Write([]byte(confused))
	now := time.Now()

	for name, token := range map[string]string{
		"an unknown issuer":         other.Mint(other.Claims("pgqueue", "alice")),
		"another issuer":            claim("iss", other.URL()),
		"another audience":          claim("aud", "https://kubernetes.default.svc"),
		"no audience":               without("aud"),
		"the algorithm none":        encode([]byte(header("alg", "none"))) + "." + parts[1] + "." + parts[2],
		"the public key as secret":  confused + "." + encode(mac.Sum(nil)),
		"another key, same kid":     stranger.Mint(t, good),
		"another key in jwk":        stranger.Sign(t, header("jwk", stranger.JWK()), oidctest.Text(t, good)),
		"another key at jku":        stranger.Sign(t, header("jku", other.URL()+oidctest.KeysPath), oidctest.Text(t, good)),
		"another key at x5u":        stranger.Sign(t, header("x5u", other.URL()+oidctest.KeysPath), oidctest.Text(t, good)),
		"a kid of another path":     stranger.Sign(t, header("kid", "../../../dev/null"), oidctest.Text(t, good)),
		"a critical header":         key.Sign(t, header("crit", []string{"b64"}), oidctest.Text(t, good)),
		"expired":                   claim("exp", now.Add(-time.Second).Unix()),
		"not yet valid":             claim("nbf", now.Add(time.Minute).Unix()),
		"no end":                    without("exp"),
		"an end that is too far":    claim("exp", now.Add(25*time.Hour).Unix()),
		"a claim twice":             key.Sign(t, header("typ", "JWT"), strings.Replace(oidctest.Text(t, good), `"sub":`, `"sub":"root","sub":`, 1)),
		"too large":                 claim("x", strings.Repeat("x", 8<<10)),
		"garbage":                   "a.b.c",
		"garbage of right letters":  encode([]byte("{}")) + "." + encode([]byte("{}")) + "." + encode([]byte("x")),
		"a subject with a new line": claim("sub", "system:serviceaccount:mail:a\nb"),
	} {
		t.Run(name, func(t *testing.T) {
			// A server of its own, because refusals have a limit for each address.
			log := &lines{}
			s, admin, _ := startWithIssuer(t, issuer, log)
			for _, way := range ways {
				err := retainAs(t, s, way, token)
				if queue.KindOf(err) != queue.KindUnauthenticated || !strings.Contains(err.Error(), "must be a valid token, got one that is unknown, expired or revoked; ask for a new one") {
					t.Errorf("over %s: %v", way, err)
				}
				for _, reason := range []string{"JWT", "issuer", "kid", "alice", "serviceaccount"} {
					if strings.Contains(err.Error(), reason) {
						t.Errorf("over %s the caller learns %q: %v", way, reason, err)
					}
				}
			}
			if log.contains(token) {
				t.Error("the log shows the JWT")
			}
			if refused := log.all(t, "refused"); len(refused) == 0 || !strings.Contains(fmt.Sprint(refused[0]["reason"]), "JWT") {
				t.Errorf("the log must say the cause, got %v", refused)
			}
			if _, err := dialAs(t, s, "rest", admin).ListQueues(t.Context(), queue.Page{}); err != nil {
				t.Errorf("a token of the settings: %v", err)
			}
		})
	}
	if n := other.Requests(oidctest.KeysPath); n != 0 {
		t.Errorf("%d requests to a place that a JWT names", n)
	}
}

// TestRefusedJWTIsRecorded: the log and the audit have the issuer and the subject that a refused JWT claims.
func TestRefusedJWTIsRecorded(t *testing.T) {
	issuer, log := oidctest.Start(t), &lines{}
	s, admin, _ := startWithIssuer(t, issuer, log)
	claims := issuer.Claims("other", "mallory\x1b[31m\n")
	if code, body := doAs(t, issuer.Mint(claims), http.MethodGet, s.URL()+"/api/queue", ""); code != http.StatusUnauthorized || strings.Contains(body, "mallory") {
		t.Errorf("%d %s", code, body)
	}
	page, err := dialAs(t, s, "rest", admin).(access.Admin).ListAudit(t.Context(), access.AuditFilter{Outcome: string(queue.KindUnauthenticated)})
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("audit %+v: %v", page, err)
	}
	if e := page.Entries[0]; e.Issuer != issuer.URL() || e.Subject != "mallory [31m " || e.PrincipalKind != access.KindJWT {
		t.Errorf("audit %+v", e)
	}
	reason := fmt.Sprint(log.all(t, "refused")[0]["reason"])
	if !strings.Contains(reason, "aud") || !strings.Contains(reason, "mallory") || strings.ContainsAny(reason, "\x1b\n") {
		t.Errorf("reason %q", reason)
	}
}

// TestIssuerIsDown: the server starts without its issuer. A JWT gets 503 until the keys are known, other credentials pass, and
// known keys outlast an outage.
func TestIssuerIsDown(t *testing.T) {
	issuer := oidctest.Start(t)
	issuer.SetDown(true)
	s, admin, _ := startWithIssuer(t, issuer, io.Discard)
	pod := issuer.Mint(projectedToken(issuer, "mail", "sender"))
	for _, way := range workWays {
		if err := retainAs(t, s, way, pod); queue.KindOf(err) != queue.KindUnavailable || strings.Contains(err.Error(), "database") {
			t.Errorf("over %s: %v", way, err)
		}
		if err := retainAs(t, s, way, admin); err != nil {
			t.Errorf("a token of the settings over %s: %v", way, err)
		}
	}
	if code, body := doAs(t, pod, http.MethodGet, s.URL()+"/api/queue", ""); code != http.StatusServiceUnavailable || strings.Contains(body, issuer.URL()) {
		t.Errorf("%d %s", code, body)
	}
	if s.control.proofs.Check(t.Context()) == nil {
		t.Error("the health must show the fault")
	}

	up := oidctest.Start(t)
	second, _, _ := startWithIssuer(t, up, io.Discard)
	token := up.Mint(projectedToken(up, "mail", "sender"))
	if err := retainAs(t, second, "rest", token); err != nil {
		t.Fatal(err)
	}
	up.SetDown(true)
	if err := retainAs(t, second, "connect", up.Mint(projectedToken(up, "mail", "other"))); err != nil {
		t.Errorf("a new JWT by a known key during an outage: %v", err)
	}
}

// TestReloadOfIssuers: an issuer is removed and added without a restart.
func TestReloadOfIssuers(t *testing.T) {
	issuer, next := oidctest.Start(t), oidctest.Start(t)
	s, _, file := startWithIssuer(t, issuer, io.Discard)
	pod := func(i *oidctest.Issuer) string { return i.Mint(projectedToken(i, "mail", "sender")) }
	present := pod(issuer)
	if err := retainAs(t, s, "rest", present); err != nil {
		t.Fatal(err)
	}

	replaceFile(t, file, accessFileOf(issuer, "observer@default"))
	s.Reload(t.Context())
	if err := retainAs(t, s, "rest", present); queue.KindOf(err) != queue.KindDenied {
		t.Errorf("with other grants: %v", err)
	}
	replaceFile(t, file, accessFileOf(next, "worker@default/mail*"))
	s.Reload(t.Context())
	if err := retainAs(t, s, "rest", present); queue.KindOf(err) != queue.KindUnauthenticated {
		t.Errorf("an issuer that was removed: %v", err)
	}
	if err := retainAs(t, s, "rest", pod(next)); err != nil {
		t.Errorf("an issuer that was added: %v", err)
	}
	replaceFile(t, file, strings.Replace(accessFileOf(issuer, "worker@default/mail*"), "audience:", "ca_file: /nowhere, audience:", 1))
	s.Reload(t.Context())
	if err := retainAs(t, s, "rest", pod(next)); err != nil || s.files.check(t.Context()) == nil {
		t.Errorf("a file with a wrong issuer must leave the former one in use: %v", err)
	}
}

// TestEndOfJWTsEndsStreams: an expired JWT, and a removed issuer, end open streams within 10 s.
func TestEndOfJWTsEndsStreams(t *testing.T) {
	issuer := oidctest.Start(t)
	s, _, file := startWithIssuer(t, issuer, io.Discard)
	claims := issuer.Claims("pgqueue", "alice")
	claims["groups"] = []string{"sre"}
	long := issuer.Mint(claims)
	claims["exp"] = time.Now().Add(3 * time.Second).Unix()
	short := issuer.Mint(claims)

	expired, removed := make(chan error, len(ways)+1), make(chan error, len(ways)+1)
	go func() { expired <- followStats(t.Context(), s, short) }()
	go func() { removed <- followStats(t.Context(), s, long) }()
	for _, way := range ways {
		follow := func(token string, ended chan<- error) {
			if strings.HasSuffix(way, " stream") {
				stream := consumerAs(t, s, way, token)
				go func() {
					_, err := stream.RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Limit: 1, Wait: time.Minute})
					ended <- err
				}()
				return
			}
			protocol := strings.Replace(way, "sse", "rest", 1)
			client := dialAs(t, s, protocol, token)
			go func() {
				ended <- client.SubscribeEvents(t.Context(), queue.EventFilter{}, func(queue.Event) error { return nil })
			}()
		}
		follow(short, expired)
		follow(long, removed)
	}
	wait := func(reason string, ended <-chan error) {
		begin := time.Now()
		for range cap(ended) {
			select {
			case err := <-ended:
				if queue.KindOf(err) != queue.KindUnauthenticated {
					t.Errorf("%s: %v", reason, err)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s: a stream goes on", reason)
			}
		}
		t.Logf("%s: streams ended within %v", reason, time.Since(begin))
	}
	wait("expired", expired)
	select {
	case err := <-removed:
		t.Fatalf("the stream of a valid JWT ended with %v", err)
	default:
	}
	replaceFile(t, file, "rules: []")
	wait("the issuer was removed", removed)
}
