package restserver

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

const about = `A task queue on PostgreSQL.

Durations in answers are integers of nanoseconds; requests take that or text such as "24h", "1m30s", "7d". In a request
null means absent. Unknown fields and query parameters are refused, and empty ones. JSON payloads and results pass byte by byte. The namespace of a request is
the header Pgqueue-Namespace, or ?namespace=, else the server's default. Errors are RFC 9457 problems; their code is stable.`

func describe(cfg Config) huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[restapi.Duration](), reflect.TypeFor[durationText]())
	registry.RegisterTypeAlias(reflect.TypeFor[restapi.Time](), reflect.TypeFor[time.Time]())
	return huma.Config{OpenAPI: &huma.OpenAPI{
		Info: &huma.Info{
			Title: "pgqueue", Version: cfg.Version, Description: about,
			License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Tags: []*huma.Tag{
			{Name: "namespace", Description: "Tenants"},
			{Name: "queue", Description: "Named lanes with a policy"},
			{Name: "task", Description: "Units of work"},
			{Name: "ticker", Description: "Named recurring triggers"},
			{Name: "event", Description: "The feed of what happens to tasks"},
			{Name: "worker", Description: "Who holds what"},
			{Name: "metrics", Description: "For Prometheus"},
		},
		Components: &huma.Components{Schemas: registry},
	}}
}

// OpenAPI is the description of the interface, in YAML. It is what transport/rest/openapi.yaml holds.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().YAML() }

// durationText stands for restapi.Duration until finishSchemas says what it takes.
type durationText string

// document is op for OpenAPI.
func (s *Server) document(op operation) *huma.Operation {
	doc := &huma.Operation{
		OperationID: op.ID, Method: op.Method, Path: op.Path, Tags: []string{op.Tag}, Summary: op.Summary,
		Description: op.text, Responses: map[string]*huma.Response{},
	}
	table := params()
	path := []string{}
	for part := range strings.SplitSeq(op.Path, "/") {
		if strings.HasPrefix(part, "{") {
			path = append(path, strings.Trim(part, "{}"))
		}
	}
	for _, n := range path {
		p := table[n]
		if n == "queue" { // the one name that is both
			p = &huma.Param{In: "path", Name: n, Required: true, Schema: name(), Example: "mail", Description: "The queue"}
		}
		doc.Parameters = append(doc.Parameters, p)
	}
	for _, n := range append(slices.Clone(op.params), restapi.HeaderNamespace) {
		doc.Parameters = append(doc.Parameters, table[n])
	}
	if op.body != nil {
		doc.RequestBody = s.requestBody(op)
	}
	s.answers(doc, op)
	return doc
}

func (s *Server) requestBody(op operation) *huma.RequestBody {
	schema := s.schema(op.body)
	body := &huma.RequestBody{Required: !op.optional, Content: map[string]*huma.MediaType{restapi.MediaJSON: {Schema: schema}}}
	if op.many {
		body.Content[restapi.MediaJSON] = &huma.MediaType{Schema: list(schema)}
		body.Content[restapi.MediaNDJSON] = &huma.MediaType{Schema: schema}
	}
	return body
}

func (s *Server) answers(doc *huma.Operation, op operation) {
	media := op.media
	if media == nil {
		media = []string{restapi.MediaJSON}
	}
	answer := func(status int, v any) *huma.Response {
		r := &huma.Response{Description: http.StatusText(status), Headers: map[string]*huma.Param{
			restapi.HeaderRequestID: {Description: "The request's id: the client's, or a new one", Schema: text(128)},
		}}
		if v != nil {
			r.Content = map[string]*huma.MediaType{}
			for _, m := range media {
				r.Content[m] = &huma.MediaType{Schema: s.schema(v)}
			}
		}
		return r
	}
	doc.Responses[strconv.Itoa(op.status)] = answer(op.status, op.reply)
	for status, v := range op.also {
		if status == op.status { // one status, two shapes
			m := doc.Responses[strconv.Itoa(status)].Content[restapi.MediaJSON]
			m.Schema = &huma.Schema{OneOf: []*huma.Schema{m.Schema, s.schema(v)}}
			continue
		}
		r := answer(status, v)
		doc.Responses[strconv.Itoa(status)] = r
		if op.ID == restapi.CreateTask.ID || op.ID == restapi.CreateTasks.ID {
			r.Headers[restapi.HeaderReplayed] = &huma.Param{Description: "true: the task was there", Schema: text(0)}
		}
	}
	switch op.ID {
	case restapi.ListTickers.ID:
		doc.Responses["200"].Content[restapi.MediaEventStream] = &huma.MediaType{Schema: s.schema(restapi.Tick{})}
	case restapi.ListEvents.ID:
		doc.Responses["200"].Content[restapi.MediaJSON] = &huma.MediaType{Schema: s.schema(restapi.EventPage{})}
	}
	doc.Responses["default"] = &huma.Response{
		Description: "A problem",
		Content:     map[string]*huma.MediaType{restapi.MediaProblem: {Schema: s.schema(restapi.Problem{})}},
	}
}

func (s *Server) schema(v any) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(v), true, "")
}

// finishSchemas says what Go types cannot: that a request's durations are integers or texts, that null is absent there,
// and that answers may gain fields.
func (s *Server) finishSchemas() {
	schemas := s.api.OpenAPI().Components.Schemas
	requests := map[string]bool{}
	for _, v := range []any{
		restapi.QueueMeta{},
		restapi.NewTask{},
		restapi.Release{},
		restapi.Heartbeat{},
		restapi.Snooze{},
		restapi.HandBack{},
		restapi.Selection{},
		restapi.TickerMeta{},
		restapi.Ack{},
	} {
		requests[reflect.TypeOf(v).Name()] = true
	}
	for n, schema := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + n)
		for f := range t.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			p := schema.Properties[key]
			optional := requests[n] && !slices.Contains(schema.Required, key)
			if f.Type == reflect.TypeFor[*restapi.Duration]() {
				d := duration()
				d.Description, d.Examples = p.Description, p.Examples
				if optional {
					d.OneOf = append(d.OneOf, &huma.Schema{Type: "null"})
				}
				schema.Properties[key] = d
				continue
			}
			// Only where there is a type: without one null is allowed anyway.
			p.Nullable = optional && p.Type != ""
			if p.Nullable && len(p.Enum) > 0 {
				p.Enum = append(p.Enum, nil)
			}
		}
		if !requests[n] && schema.AdditionalProperties == false {
			schema.AdditionalProperties = nil
		}
	}
	codes := schemas.Map()["Problem"].Properties["code"]
	for _, k := range queue.Kinds() {
		codes.Enum = append(codes.Enum, string(k))
	}
	schemas.Map()["ListString"].Properties["body"].Examples = []any{[]string{"demo", "pgqueue"}}
	schemas.Map()["ListTime"].Properties["body"].Examples = []any{[]string{"2026-01-02T16:00:00Z"}}
}
