package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// TestSecretsStayInRequests runs a whole server over each way in, with good tokens and with bad credentials in every place
// where a slip puts one, and searches all output for them: the log at debug level, exported traces and metrics, the
// metrics page, answers and the audit. Only the create and the rotation of a token show the new one.
func TestSecretsStayInRequests(t *testing.T) {
	var exported lines // raw messages of OTLP, in which texts are plain
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&exported, r.Body) }))
	t.Cleanup(collector.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")

	var log, answers lines
	admin, wrong := access.NewSecret().Reveal(), access.NewSecret().Reveal()
	cfg := newSlow().config(&log)
	cfg.AdminTokenFile = writeTokens(t, admin)
	store := &auditedStore{memory.New(), memory.NewAudit(nil)}
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	s := start(t, cfg)

	rest := dialAs(t, s, "rest", admin)
	if _, err := rest.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); err != nil {
		t.Fatal(err)
	}
	tokens := rest.(access.Admin)
	issued, err := tokens.CreateToken(t.Context(), access.TokenRequest{Name: "a", Grants: []string{"admin@default"}})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := tokens.RotateToken(t.Context(), issued.ID, access.Rotation{Overlap: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := tokens.CreateToken(t.Context(), access.TokenRequest{Name: "b", Grants: []string{"admin@default"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}

	workOver(t, s, issued.Secret.Reveal())
	client := wireClient(t)
	garbage := wrong[:len(wrong)-1] + "~" // no letter of a token
	for _, secret := range []string{admin, wrong, spoilChecksum(wrong), garbage, revoked.Secret.Reveal(), rotated.Secret.Reveal()} {
		for _, way := range []string{"rest", "connect", "grpc", "grpcweb"} {
			_, err := dialAs(t, s, way, secret).GetQueue(t.Context(), "nowhere")
			_, _ = answers.Write([]byte(err.Error()))
		}
		// The places of a slip: other schemes, the query, the path, a header for the audit, an id.
		for _, r := range []struct {
			method, path, body string
			header             []string
		}{
			{"GET", "/api/queue", "", []string{"Authorization", "Bearer " + secret}},
			{"GET", "/api/queue", "", []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+secret))}},
			{"GET", "/api/queue", "", []string{"Authorization", "Bearer " + secret + ", " + secret}},
			{"GET", "/api/queue", "", []string{"Authorization", secret}},
			{"GET", "/api/queue?access_token=" + secret, "", nil},
			{"DELETE", "/api/token/" + secret, "", []string{"Authorization", "Bearer " + admin}},
			{"POST", "/api/token/" + secret + "/rotate", "{}", []string{"Authorization", "Bearer " + admin}},
			{"DELETE", "/api/queue/mail", "", []string{"Authorization", "Bearer " + wrong, "Pgqueue-Reason", "because of " + secret}},
			{"POST", "/pgqueue.v1.QueueService/ListQueues", "{}", []string{"Authorization", "Bearer " + secret}},
			{"POST", "/pgqueue.v1.QueueService/ListQueues", "{}", []string{"Cookie", "token=" + secret}},
		} {
			header := append([]string{"Content-Type", restapi.MediaJSON}, r.header...)
			_, body, h := send(t, client, r.method, s.URL()+r.path, "", []byte(r.body), header...)
			_, _ = answers.Write(body)
			_ = h.Write(&answers)
		}
	}

	_, page, _ := send(t, client, "GET", s.URL()+"/api/metrics", admin, nil)
	_, list, _ := send(t, client, "GET", s.URL()+"/api/token", admin, nil)
	audit, err := store.ListAudit(t.Context(), access.AuditFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := json.Marshal(audit.Entries)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	outputs := map[string]string{
		"the log": log.text(), "the traces and metrics": exported.text(), "an answer": answers.text(),
		"the metrics page": string(page), "the list of tokens": string(list), "the audit": string(entries),
	}
	for where, content := range map[string]string{
		"the log": "must have the checksum of its letters", "the traces and metrics": "/api/token/{id}/rotate", "an answer": "unauthenticated",
		"the metrics page": "queue_tasks", "the list of tokens": issued.ID, "the audit": "unauthenticated",
	} {
		if !strings.Contains(outputs[where], content) {
			t.Errorf("%s has no %q, so this test proves nothing there", where, content)
		}
	}
	for name, secret := range map[string]string{
		"an admin token": admin, "an unknown token": wrong, "a created token": issued.Secret.Reveal(),
		"a rotated token": rotated.Secret.Reveal(), "a revoked token": revoked.Secret.Reveal(),
	} {
		private := secret[len("pgq_12345678_"):]
		private = private[:32] // without the checksum, which some of them miss
		for where, text := range outputs {
			if form := findSecret(text, private); form != "" {
				at := strings.Index(text, private)
				t.Errorf("%s is in %s as %s: %.200q", name, where, form, text[max(at-100, 0):])
			}
		}
	}
}

// TestSecretsOfSignInsStayInRequests is [TestSecretsStayInRequests] for the secrets of sign-ins: one-time codes, sessions, JWTs, the
// secret of the client at the provider, and the code and the state of a callback.
func TestSecretsOfSignInsStayInRequests(t *testing.T) {
	var exported lines
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&exported, r.Body) }))
	t.Cleanup(collector.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")

	var log, answers lines
	issuer := oidctest.Start(t)
	clientSecret := rand.Text() + rand.Text()
	cfg := newSlow().config(&log)
	cfg.AdminToken = access.NewSecret().Reveal()
	cfg.AccessFile = writeFile(t, accessFileOf(issuer, "worker@default/mail*"))
	cfg.OIDCIssuer, cfg.OIDCClientID, cfg.OIDCClientSecret = issuer.URL(), "dashboard", clientSecret
	store := &auditedStore{memory.New(), memory.NewAudit(nil)}
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	s := start(t, cfg)
	issuer.SetClient(oidctest.Client{ID: "dashboard", Secret: clientSecret, RedirectURI: s.URL() + "/api/session/oidc/callback"})
	issuer.SetUser(map[string]any{"sub": "ann", "name": "Ann", "groups": []string{"sre"}})
	redirects := client.CheckRedirect
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() { client.CheckRedirect = redirects })

	secrets := map[string]string{"the client secret": clientSecret}
	wire := wireClient(t)
	ask := func(method, path, body string, header ...string) {
		t.Helper()
		_, text, h := send(t, wire, method, s.URL()+path, "", []byte(body), append([]string{"Content-Type", restapi.MediaJSON}, header...)...)
		_, _ = answers.Write(text)
		_ = h.Write(&answers)
	}

	// A code, which opens a session; both again where they do not belong.
	code, err := s.control.sessions.CreateCode(access.With(t.Context(), access.NewPrincipal("a", "a", access.KindToken, []access.Grant{{Role: access.RoleAdmin, Namespace: "*"}})))
	if err != nil {
		t.Fatal(err)
	}
	p := &page{T: t, url: s.URL()}
	opened := p.want(http.StatusCreated, "POST", "/api/session", `{"code":"`+code.Secret.Reveal()+`"}`)
	session := opened.Cookies()[0]
	secrets["a code"], secrets["a session"] = code.Secret.Reveal()[13:45], session.Value[13:45]

	claims := issuer.Claims("pgqueue", "alice")
	claims["groups"] = []string{"sre"}
	valid := issuer.Mint(claims)
	claims["exp"] = 1000
	expired := issuer.Mint(claims)
	secrets["a JWT"], secrets["an expired JWT"] = valid[strings.LastIndexByte(valid, '.')+1:], expired[strings.LastIndexByte(expired, '.')+1:]

	// A callback: once, again, and with a code that the provider does not know.
	callback := p.begin("")
	u, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	secrets["the code of a callback"], secrets["the state of a callback"] = u.Query().Get("code"), u.Query().Get("state")
	login := p.cookies
	answer := p.want(http.StatusSeeOther, "GET", callback, "", navigation...)
	for _, c := range answer.Cookies() {
		if c.MaxAge > 0 {
			secrets["a session of the provider"] = c.Value[13:45]
		}
	}
	secrets["the cookie of a sign-in"], _, _ = strings.Cut(login[0].Value, ".")
	p.cookies = login
	_, _ = answers.Write([]byte(p.ask("GET", callback, "", navigation...).text))
	_, _ = answers.Write([]byte(p.ask("GET", strings.Replace(callback, "code=", "code=x", 1), "", navigation...).text))
	_, _ = answers.Write([]byte(p.ask("GET", callback+"&error=access_denied", "", navigation...).text))

	for _, secret := range []string{code.Secret.Reveal(), session.Value, valid, expired} {
		ask("GET", "/api/queue", "", "Authorization", "Bearer "+secret)
		ask("GET", "/api/queue", "", "Authorization", secret)
		ask("GET", "/api/queue", "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+secret)))
		ask("GET", "/api/queue", "", "Cookie", session.Name+"="+secret)
		ask("GET", "/api/queue?access_token="+secret, "")
		ask("GET", "/api/queue/"+secret, "")
		ask("POST", "/api/session", `{"code":"`+secret+`"}`)
		ask("POST", "/api/session", `{"token":"`+secret+`x"}`)
		ask("DELETE", "/api/queue/mail", "", "Authorization", "Bearer "+cfg.AdminToken, "Pgqueue-Reason", "because of "+secret)
		ask("POST", "/pgqueue.v1.QueueService/ListQueues", "{}", "Authorization", "Bearer "+secret)
	}

	_, metrics, _ := send(t, wire, "GET", s.URL()+"/api/metrics", cfg.AdminToken, nil)
	_, list, _ := send(t, wire, "GET", s.URL()+"/api/session", cfg.AdminToken, nil)
	audit, err := store.ListAudit(t.Context(), access.AuditFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := json.Marshal(audit.Entries)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{
		"the log": log.text(), "the traces and metrics": exported.text(), "an answer": answers.text(),
		"the metrics page": string(metrics), "the list of sessions": string(list), "the audit": string(entries),
	}
	for name, secret := range secrets {
		if len(secret) < 10 {
			t.Errorf("%s is %q, so this test proves nothing about it", name, secret)
			continue
		}
		for where, text := range outputs {
			if form := findSecret(text, secret); form != "" {
				at := strings.Index(text, secret)
				t.Errorf("%s is in %s as %s: %.300q", name, where, form, text[max(at-150, 0):])
			}
		}
	}
}

// workOver works a task over each way in, and follows the events.
func workOver(t *testing.T, s *Server, token string) {
	t.Helper()
	ways := map[string]queue.Service{
		"rest": dialAs(t, s, "rest", token), "connect": dialAs(t, s, "connect", token), "grpc": dialAs(t, s, "grpc", token),
	}
	stream := connectclient.NewStream(dialAs(t, s, "grpc", token).(*connectclient.Client))
	t.Cleanup(stream.Close)
	ways["stream"] = stream
	for way, svc := range ways {
		ctx, stop := context.WithCancel(t.Context())
		w := worker.New(svc, worker.WithName("w"), worker.WithWait(100*time.Millisecond))
		w.Handle("mail", worker.HandlerFunc(func(context.Context, *queue.Task) (any, error) { stop(); return nil, nil }))
		if _, err := svc.CreateTask(ctx, "mail", queue.TaskMeta{}); err != nil {
			t.Fatal(way, err)
		}
		if err := w.Run(ctx); err != nil {
			t.Error(way, err)
		}

		cursor, err := svc.ListEvents(t.Context(), queue.EventFilter{}, 1)
		if err != nil {
			t.Fatal(way, err)
		}
		err = svc.SubscribeEvents(t.Context(), queue.EventFilter{After: cursor.Next}, func(queue.Event) error { return errDone })
		if !errors.Is(err, errDone) {
			t.Errorf("the events over %s end with %v", way, err)
		}
	}
}

// text returns what was written.
func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Clone(l.buf.Bytes()))
}

// findSecret returns the form in which text contains secret: plain, in URLs, in base64 at any offset, in hex; "" for none.
func findSecret(text, secret string) string {
	forms := map[string]string{"plain": secret, "a URL": url.QueryEscape(secret), "hex": hex.EncodeToString([]byte(secret))}
	for offset, name := range []string{"base64", "base64 at offset 1", "base64 at offset 2"} {
		// The first and the last letters depend on the bytes around.
		form := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", offset) + secret))
		forms[name] = form[2*min(offset, 1)+offset : len(form)-4]
	}
	for name, form := range forms {
		if strings.Contains(text, form) || name == "hex" && strings.Contains(strings.ToLower(text), form) {
			return name
		}
	}
	return ""
}

// TestASecretInAWrongHeaderStaysOutOfTheLog: a client that puts its token into a header that the checks of the port refuse finds it
// neither in the log nor in the answer.
func TestASecretInAWrongHeaderStaysOutOfTheLog(t *testing.T) {
	log := &lines{}
	store := newSlow()
	close(store.leave)
	s := start(t, store.config(log))
	secret := access.NewSecret().Reveal()
	for _, header := range []string{"Host", "Origin", "Content-Type"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/api/task", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(header, secret)
		if header == "Host" {
			r.Host = secret
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if res.Body.Close(); err != nil || res.StatusCode < 400 {
			t.Errorf("a token as %s: %d, %v", header, res.StatusCode, err)
		}
		if _, tail, _ := strings.Cut(strings.TrimPrefix(secret, "pgq_"), "_"); strings.Contains(string(body), tail) || strings.Contains(log.String(), tail) {
			t.Errorf("a token as %s is in the answer %s\nor in the log %s", header, body, log.String())
		}
	}
}
