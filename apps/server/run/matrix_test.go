package run

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/adapters/oidc/oidctest"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// publicRoutes are the routes that need no credential, by hand. Each other route needs a row in the table of operations.
var publicRoutes = []string{
	"GET /livez", "GET /readyz", "GET /openapi.json", "GET /openapi.yaml",
	"GET /docs", "GET /docs/{$}", "GET /docs/init.js", "GET /docs/{file}",
	"GET /ui", "GET /ui/",
	signIn,
	"/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/",
}

// signIn brings its credential in its body.
const signIn = "POST /api/session"

// providerRoutes are public routes that a server with an identity provider has beside publicRoutes. The second one brings its
// credential in its address.
var providerRoutes = []string{"GET /api/session/oidc", "GET /api/session/oidc/callback"}

// neededActions has the operations that need other rights than the one of the table of operations: all of a row, and
// of an action with "|" one of two.
var neededActions = map[queue.Op]string{
	queue.OpGetTask:        "task.read|task.result",
	queue.OpCreateTicker:   "ticker.manage task.create",
	queue.OpRegisterTicker: "ticker.manage task.create",
	queue.OpUpdateTicker:   "ticker.manage task.create",
	queue.OpRunTicker:      "ticker.run task.create",
}

// methodOps has the RPCs with other names than their operations.
var methodOps = map[string]queue.Op{
	"Work": queue.OpRetainTasks, "GetQueueStats": queue.OpQueueStats, "ScaleQueues": queue.OpQueueStats, "ListQueueStats": queue.OpListQueueStatuses,
	"GetQueueHistory": queue.OpQueueHistory,
	"ReceiveTicks":    queue.OpRunTickerLoop, "HandleTicks": queue.OpRunTickerLoop,
}

// endpoint is one way to one operation, with a request that the server accepts from a principal with every right.
type endpoint struct {
	name    string
	op      queue.Op // 0 for the metrics
	actions string
	// call sends the request with a token and returns the kind of the refusal.
	call func(t *testing.T, token string) queue.Kind
}

func newEndpoint(name string, op queue.Op) endpoint {
	e := endpoint{name: name, op: op, actions: neededActions[op]}
	if e.actions == "" {
		e.actions = string(op.Operation().Action)
	}
	if op == 0 {
		e.actions = string(queue.ActionSystemRead)
	}
	return e
}

// may reports whether the role has the rights of the endpoint.
func (e endpoint) may(role access.Role) bool {
	for all := range strings.FieldsSeq(e.actions) {
		if !slices.ContainsFunc(strings.Split(all, "|"), func(a string) bool { return slices.Contains(role.Actions(), queue.Action(a)) }) {
			return false
		}
	}
	return true
}

// startMatrix starts a closed server with an audit and with a token of each role, and of one with every right under "".
func startMatrix(t *testing.T, changes ...func(*Config)) (*Server, map[access.Role]string) {
	t.Helper()
	tokens := map[access.Role]string{"": access.NewSecret().Reveal()}
	lines := []string{tokens[""]}
	for _, role := range access.Roles() {
		tokens[role] = access.NewSecret().Reveal()
		where := "default"
		if role == access.RoleSystem || role == access.RoleMetrics {
			where = "*"
		}
		lines = append(lines, fmt.Sprintf("%s %s@%s", tokens[role], role, where))
	}

	cfg := newSlow().config(io.Discard)
	cfg.AdminTokenFile = writeTokens(t, lines...)
	store := &auditedStore{memory.New(), memory.NewAudit(nil)}
	cfg.Store = func(context.Context) (queue.Store, func(context.Context) error, error) {
		return store, func(context.Context) error { return nil }, nil
	}
	for _, change := range changes {
		change(&cfg)
	}
	return start(t, cfg), tokens
}

// TestMatrixOverTheWire calls every operation over REST and over Connect with a token of each role, and compares the answer
// with the table of operations. The requests come from the OpenAPI document and from the descriptors of the RPCs, so a new
// operation joins by itself.
func TestMatrixOverTheWire(t *testing.T) {
	s, tokens := startMatrix(t)
	endpoints := append(restEndpoints(t, s, tokens[""]), rpcEndpoints(t, s)...)

	cells := 0
	for _, e := range endpoints {
		if got := e.call(t, ""); got != queue.KindUnauthenticated {
			t.Errorf("%s without a token: %q", e.name, got)
		}
		for _, role := range access.Roles() {
			cells++
			got := e.call(t, tokens[role])
			if e.may(role) && (got == queue.KindDenied || got == queue.KindUnauthenticated) || !e.may(role) && got != queue.KindDenied {
				t.Errorf("%s by %s: %q; it needs %s", e.name, role, got, e.actions)
			}
		}
	}
	t.Logf("%d endpoints, %d cells", len(endpoints), cells)

	reached := map[queue.Op]bool{}
	for _, e := range endpoints {
		reached[e.op] = true
	}
	for _, op := range append(queue.ServiceOps(), queue.AdminOps()...) {
		// The route of the clean bounds its time, and LastEvent begins a stream.
		if !reached[op] && op != queue.OpRegisterQueue && op != queue.OpCleanQueue && op != queue.OpCleanQueueWithin && op != queue.OpLastEvent {
			t.Errorf("no endpoint calls %s", op)
		}
	}
}

// TestEachRouteHasARow: each pattern of the port is a route of the table of operations, a procedure, or on the public list.
// The public routes, and no others, answer without a token. A server with an identity provider has routes of its own.
func TestEachRouteHasARow(t *testing.T) {
	redirects := client.CheckRedirect
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() { client.CheckRedirect = redirects })

	t.Run("without a provider", func(t *testing.T) {
		s, _ := startMatrix(t)
		checkRoutes(t, s, publicRoutes)
	})
	t.Run("with a provider", func(t *testing.T) {
		issuer := oidctest.Start(t)
		s, _ := startMatrix(t, func(c *Config) {
			c.AccessFile = writeFile(t, "rules: []")
			c.OIDCIssuer, c.OIDCClientID, c.OIDCClientSecret = issuer.URL(), "pgqueue", "s3cret"
		})
		checkRoutes(t, s, slices.Concat(publicRoutes, providerRoutes))
	})
}

// checkRoutes checks each pattern of a server of which the routes on a list are public.
func checkRoutes(t *testing.T, s *Server, public []string) {
	t.Helper()
	h, err := s.handler()
	if err != nil {
		t.Fatal(err)
	}

	// The root leads a browser to the dashboard, and refuses other callers without a token.
	known := append(slices.Clone(public), "GET /{$}")
	for _, r := range restapi.Routes() {
		if r.Op == 0 && r != restapi.Metrics || r.Op != 0 && r.Op.Operation().Action == "" {
			t.Errorf("%s %s has no action in the table of operations", r.Method, r.Path)
		}
		known = append(known, r.Method+" /api"+r.Path)
	}
	for service := range rpcServices() {
		known = append(known, "/"+service+"/")
	}
	for _, pattern := range h.patterns {
		if !slices.Contains(known, pattern) && pattern != "/" { // below "/" is REST, which answers 404 there
			t.Errorf("%s is neither a route of the table of operations nor on the public list", pattern)
		}
	}
	for _, pattern := range known {
		if !slices.Contains(h.patterns, pattern) {
			t.Errorf("%s is known, but the server does not have it", pattern)
		}
	}

	files := strings.NewReplacer("{$}", "", "{file}", "swagger-ui.css", "{name}", "x", "{queue}", "x", "{id}", "1")
	for _, pattern := range h.patterns {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			continue // the procedures follow
		}
		code, text := do(t, method, s.URL()+files.Replace(path), "")
		if isPublic := slices.Contains(public, pattern); isUnseen(code, text) == isPublic {
			t.Errorf("%s without a token: %d %s", pattern, code, text)
		}
	}
	for service, methods := range rpcServices() {
		for _, method := range methods {
			code, text := do2(t, s.URL()+"/"+service+"/"+string(method.Name()), "{}")
			if !isUnseen(code, text) && strings.HasPrefix(service, "pgqueue.") {
				t.Errorf("%s/%s without a token: %d %s", service, method.Name(), code, text)
			}
		}
	}
	for _, route := range s.publicRoutes() {
		if !strings.HasPrefix(route.methods, http.MethodGet) || strings.Contains(route.path, "session/oidc") || strings.HasPrefix(route.path, "/grpc.") {
			continue // the others need a body, or an answer of the provider
		}
		if code, _ := do(t, http.MethodGet, s.URL()+route.path, ""); code >= 400 && route.when == nil {
			t.Errorf("%s is public and answers %d", route.path, code)
		}
	}
}

// isUnseen reports whether an answer is that of the check of credentials, so that no route has seen the request. Routes of a
// sign-in have another text for a wrong credential.
func isUnseen(code int, text string) bool {
	return code == http.StatusUnauthorized && strings.Contains(text, "must be a bearer token")
}

// rpcServices has the methods of each service that the server knows.
func rpcServices() map[string][]protoreflect.MethodDescriptor {
	services := map[string][]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			if !strings.HasPrefix(string(service.FullName()), "pgqueue.") {
				continue
			}
			for j := range service.Methods().Len() {
				services[string(service.FullName())] = append(services[string(service.FullName())], service.Methods().Get(j))
			}
		}
		return true
	})
	return services
}

// wireClient speaks HTTP/2 without TLS, which streams in both directions need.
func wireClient(t *testing.T) *http.Client {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &p}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// send sends a request with a token and returns the status, the body unless the answer is a stream, and the header.
func send(t *testing.T, c *http.Client, method, target, token string, body []byte, header ...string) (int, []byte, http.Header) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && resp.Header.Get("Content-Type") == restapi.MediaEventStream {
		return resp.StatusCode, nil, resp.Header
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b, resp.Header
}

// problem is the part of an error of REST that the tests compare.
type problem struct {
	Code, Field, Detail string
}

// restEndpoints reads the operations of the OpenAPI document, and fits a request for each to the server.
func restEndpoints(t *testing.T, s *Server, admin string) []endpoint {
	t.Helper()
	routes := map[string]restapi.Route{}
	for _, r := range restapi.Routes() {
		routes[r.ID] = r
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]schema }
	}
	_, text := do(t, http.MethodGet, s.URL()+"/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}

	c := wireClient(t)
	var all []endpoint
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			var op documented
			if err := json.Unmarshal(doc.Paths[path][method], &op); err != nil || op.OperationID == "" {
				continue // a part that belongs to all methods of the path
			}
			route, ok := routes[op.OperationID]
			if !ok {
				t.Errorf("%s of the OpenAPI document must have a route, got none", op.OperationID)
				continue
			}

			if route == restapi.OpenSession {
				continue // its credential is in its body
			}
			e := newEndpoint("REST "+op.OperationID, route.Op)
			if route == restapi.PauseQueue || route == restapi.ResumeQueue {
				e.actions = string(queue.ActionQueuePause)
			}
			r := op.newRequest(strings.ToUpper(method), s.URL()+"/api"+path, doc.Components.Schemas)
			r.fit(t, c, admin)
			e.call = func(t *testing.T, token string) queue.Kind {
				t.Helper()
				p, _ := r.send(t, c, token)
				return queue.Kind(p.Code)
			}
			all = append(all, e)
		}
	}
	if len(all) != len(routes)-1 { // without the sign-in
		t.Errorf("%d operations in the OpenAPI document, %d routes", len(all), len(routes))
	}
	return all
}

// documented is an operation of the OpenAPI document.
type documented struct {
	OperationID string
	Parameters  []struct {
		Name, In string
		Required bool
		Example  any
		Schema   schema
	}
	RequestBody struct {
		Content map[string]struct{ Schema schema }
	}
}

// schema is the part of a schema from which examples are made.
type schema struct {
	Ref        string `json:"$ref"`
	Items      *schema
	Properties map[string]schema
	Examples   []any
}

// request is a request with its parts apart.
type request struct {
	method, path string
	query        map[string]string
	examples     map[string]string // of parameters that are left out
	body         map[string]any
	isList       bool
	hasBody      bool
}

// newRequest makes a request of the examples of an operation: required parameters, and each field of the body.
func (op documented) newRequest(method, path string, schemas map[string]schema) *request {
	r := &request{method: method, path: path, query: map[string]string{}, examples: map[string]string{}}
	for _, p := range op.Parameters {
		example := p.Example
		if example == nil && len(p.Schema.Examples) > 0 {
			example = p.Schema.Examples[0]
		}
		switch {
		case p.In == "path":
			r.path = strings.ReplaceAll(r.path, "{"+p.Name+"}", url.PathEscape(fmt.Sprint(example)))
		case p.In == "query" && p.Required:
			r.query[p.Name] = fmt.Sprint(example)
		case p.In == "query":
			r.examples[p.Name] = fmt.Sprint(example)
		}
	}
	content, ok := op.RequestBody.Content[restapi.MediaJSON]
	if !ok {
		return r
	}
	r.hasBody = true
	body := content.Schema
	if body.Items != nil {
		r.isList = true
		body = *body.Items
	}
	r.body = map[string]any{}
	for name, property := range schemas[strings.TrimPrefix(body.Ref, "#/components/schemas/")].Properties {
		if len(property.Examples) > 0 {
			r.body[name] = property.Examples[0]
		}
	}
	return r
}

// fit sends r as a principal with every right, and removes or adds the fields that the server names, until the server has
// nothing against the input, or against the rest of it.
func (r *request) fit(t *testing.T, c *http.Client, admin string) {
	t.Helper()
	for range 30 {
		p, _ := r.send(t, c, admin)
		if p.Code != string(queue.KindInvalid) {
			return
		}
		name := p.Field[strings.LastIndexAny(p.Field, "].")+1:]
		_, inBody := r.body[name]
		_, inQuery := r.query[name]
		example, known := r.examples[name]
		switch {
		case inBody:
			delete(r.body, name)
		case inQuery:
			delete(r.query, name)
		case known:
			r.query[name] = example
		case len(r.body) > 1:
			delete(r.body, slices.Sorted(maps.Keys(r.body))[0])
		default:
			return // nothing is left to change, and the decision precedes this refusal
		}
	}
	t.Fatalf("no request fits %s %s: %v %v", r.method, r.path, r.query, r.body)
}

func (r *request) send(t *testing.T, c *http.Client, token string) (problem, []byte) {
	t.Helper()
	query := url.Values{}
	for name, value := range r.query {
		query.Set(name, value)
	}
	var body []byte
	header := []string{"Accept", restapi.MediaJSON}
	if r.hasBody {
		var content any = r.body
		if r.isList {
			content = []any{r.body}
		}
		var err error
		if body, err = json.Marshal(content); err != nil {
			t.Fatal(err)
		}
		header = append(header, "Content-Type", restapi.MediaJSON)
	}
	code, answer, _ := send(t, c, r.method, r.path+"?"+query.Encode(), token, body, header...)
	if code < 400 {
		return problem{}, answer
	}
	var p problem
	if err := json.Unmarshal(answer, &p); err != nil || p.Code == "" {
		t.Fatalf("%s %s: %d %q", r.method, r.path, code, answer)
	}
	return p, answer
}

// rpcEndpoints makes a request for each RPC from its descriptor.
func rpcEndpoints(t *testing.T, s *Server) []endpoint {
	t.Helper()
	ops := map[string]queue.Op{}
	for _, op := range queue.Ops() {
		ops[op.Operation().Method] = op
	}
	maps.Copy(ops, methodOps)

	c := wireClient(t)
	var all []endpoint
	for service, methods := range rpcServices() {
		for _, method := range methods {
			op, ok := ops[string(method.Name())]
			if !ok || op.Operation().Action == "" {
				t.Errorf("%s has no row in the table of operations", method.FullName())
				continue
			}
			e := newEndpoint("RPC "+string(method.Name()), op)
			message, err := json.Marshal(exampleMessage(method.Input(), 0))
			if err != nil {
				t.Fatal(err)
			}
			target := s.URL() + "/" + service + "/" + string(method.Name())
			e.call = func(t *testing.T, token string) queue.Kind {
				t.Helper()
				return callRPC(t, c, target, token, message, method)
			}
			all = append(all, e)
		}
	}
	return all
}

// exampleMessage returns a message in JSON with the names and ids of the examples.
func exampleMessage(d protoreflect.MessageDescriptor, depth int) map[string]any {
	texts := map[string]any{
		"namespace": "default", "queue": "mail", "ticker": "hourly", "worker": "w", "id": "abcdefgh", "name": "x", "action": "task.read", "grants": "viewer@default",
	}
	message := map[string]any{}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		var value any
		switch f.Kind() {
		case protoreflect.StringKind:
			value = texts[string(f.Name())]
		case protoreflect.Int64Kind, protoreflect.Uint64Kind:
			if f.Name() == "id" || f.Name() == "ids" {
				value = "1"
			}
		case protoreflect.MessageKind:
			// A stream with requests in its first message would be refused for its form.
			own := strings.HasPrefix(string(f.Message().FullName()), "pgqueue.") && !f.IsMap() && depth < 3
			if own && (d.Name() != "WorkRequest" || f.Name() == "hello") {
				value = exampleMessage(f.Message(), depth+1)
			}
		default:
		}
		if value == nil {
			continue
		}
		if f.IsList() {
			value = []any{value}
		}
		message[f.JSONName()] = value
	}
	return message
}

// callRPC calls a procedure by the protocol of Connect with JSON and returns the kind of its error. A stream that is not
// refused answers its first message at once.
func callRPC(t *testing.T, c *http.Client, target, token string, message []byte, method protoreflect.MethodDescriptor) queue.Kind {
	t.Helper()
	if !method.IsStreamingServer() {
		code, answer, _ := send(t, c, http.MethodPost, target, token, message, "Content-Type", "application/json", "Connect-Protocol-Version", "1")
		if code == http.StatusOK {
			return ""
		}
		return kindOfConnect(t, answer)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, write := io.Pipe()
	defer write.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, read)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	req.Header.Set("Connect-Protocol-Version", "1")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	go func() {
		_, _ = write.Write(append(frame, message...)) // fails when the server refuses the stream unread
		if !method.IsStreamingClient() {
			_ = write.Close()
		}
	}()

	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return kindOfConnect(t, answer)
	}

	var head [5]byte
	if _, err := io.ReadFull(resp.Body, head[:]); err != nil {
		t.Fatal(target, err)
	}
	first := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(target, err)
	}
	if endsStream := head[0]&2 != 0; !endsStream {
		return ""
	}
	var end struct{ Error json.RawMessage }
	if err := json.Unmarshal(first, &end); err != nil {
		t.Fatal(err)
	}
	return kindOfConnect(t, end.Error)
}

// kindOfConnect returns the kind of an error of Connect in JSON.
func kindOfConnect(t *testing.T, answer []byte) queue.Kind {
	t.Helper()
	var failed struct{ Code, Message string }
	if err := json.Unmarshal(answer, &failed); err != nil || failed.Code == "" {
		t.Fatalf("%q: %v", answer, err)
	}
	switch failed.Code {
	case "permission_denied":
		return queue.KindDenied
	case "unauthenticated":
		return queue.KindUnauthenticated
	}
	return queue.Kind(failed.Code)
}
