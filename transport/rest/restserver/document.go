package restserver

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

const description = `A task queue on PostgreSQL.

Durations in answers are integers of nanoseconds; requests take that or text such as "24h", "1m30s", "7d". In a request
null means absent. Unknown fields and query parameters are refused, and empty ones. JSON payloads and results pass byte
by byte. The namespace of a request is the header Pgqueue-Namespace, or ?namespace=, else the server's default. Errors
are RFC 9457 problems; their code is stable.`

const schemaPrefix = "#/components/schemas/"

// newHumaAPI returns the huma API of s, without operations.
func newHumaAPI(s *Server) huma.API {
	registry := huma.NewMapRegistry(schemaPrefix, huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[restapi.Duration](), reflect.TypeFor[durationText]())
	registry.RegisterTypeAlias(reflect.TypeFor[restapi.Time](), reflect.TypeFor[time.Time]())

	return huma.NewAPI(huma.Config{
		OpenAPI: &huma.OpenAPI{
			Info: &huma.Info{
				Title: "pgqueue", Version: s.cfg.Version, Description: description,
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: s.cfg.Prefix}},
			Tags: []*huma.Tag{
				{Name: "namespace", Description: "Tenants"},
				{Name: "queue", Description: "Named lines of tasks with a policy"},
				{Name: "task", Description: "Units of work"},
				{Name: "ticker", Description: "Named recurring triggers"},
				{Name: "event", Description: "The feed of changes of tasks"},
				{Name: "worker", Description: "Workers and the tasks that they hold"},
				{Name: "token", Description: "Credentials and their rights"},
				{Name: "session", Description: "Sessions of the dashboard"},
				{Name: "audit", Description: "Changes by operators, and refusals"},
				{Name: "metrics", Description: "For Prometheus"},
			},
			Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{
				"token": {Type: "http", Scheme: "bearer", Description: "A closed server demands it, or a session; an open one does not"},
			}},
			// The empty requirement is that of an open server.
			Security: []map[string][]string{{"token": {}}, {}},
		},
		Formats: bodyFormats(), DefaultFormat: restapi.MediaJSON,
		Transformers: []huma.Transformer{translateErrors},
	}, adapter{s})
}

// OpenAPI returns the description of the interface in YAML, which transport/rest/openapi.yaml holds.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().YAML() }

// durationText stands for restapi.Duration until finishSchemas replaces it by the two forms of a duration.
type durationText string

// documenter is the API as huma.Register sees it for one operation. It adds the facts to huma's description that the
// structs of the operation do not contain.
type documenter struct {
	huma.API

	server *Server
	op     operation
}

// DocumentOperation implements huma.OperationDocumenter. It describes a copy, because the original operation runs.
func (d documenter) DocumentOperation(op *huma.Operation) {
	doc := *op
	doc.Parameters = nil
	for _, p := range op.Parameters {
		doc.Parameters = append(doc.Parameters, describeParam(*p))
	}
	doc.Parameters = append(doc.Parameters, &huma.Param{
		In: "header", Name: restapi.HeaderNamespace, Schema: input.Name("").Schema(nil), Example: "default",
		Description: "The namespace; ?namespace= does the same",
	})

	if body := op.RequestBody; body != nil {
		doc.RequestBody = describeBody(*body, !d.op.optionalBody)
		// The operation reports a missing body with its field.
		body.Required = false
	}
	doc.Responses = d.describeResponses(op)
	d.OpenAPI().AddOperation(&doc)
}

// describeParam moves the example of a parameter from its schema, where huma puts it, to the parameter.
func describeParam(p huma.Param) *huma.Param {
	schema := *p.Schema
	if len(schema.Examples) > 0 {
		p.Example = schema.Examples[0]
	}
	schema.Examples, schema.Description, schema.Nullable = nil, "", false
	// input.Split reads the default form of OpenAPI.
	p.Schema, p.Explode = &schema, nil
	return &p
}

func describeBody(body huma.RequestBody, required bool) *huma.RequestBody {
	body.Required = required
	if schema := body.Content[restapi.MediaJSON].Schema; schema.Type == huma.TypeArray {
		body.Content = map[string]*huma.MediaType{
			restapi.MediaJSON:   {Schema: schema},
			restapi.MediaNDJSON: {Schema: schema.Items},
		}
	}
	return &body
}

// describeResponses adds the other answers, the request id and the problem to the responses of the output struct.
func (d documenter) describeResponses(op *huma.Operation) map[string]*huma.Response {
	responses := map[string]*huma.Response{"default": {
		Description: "A problem",
		Content:     map[string]*huma.MediaType{restapi.MediaProblem: {Schema: d.schemaOf(restapi.Problem{})}},
	}}
	status := strconv.Itoa(op.DefaultStatus)
	success := *op.Responses[status]
	responses[status] = &success

	for _, a := range d.op.answers {
		key := strconv.Itoa(a.status)
		r := responses[key]
		if r == nil {
			r = &huma.Response{Description: http.StatusText(a.status), Headers: success.Headers}
			responses[key] = r
		}

		if r.Content == nil {
			r.Content = map[string]*huma.MediaType{}
		}

		schema := d.schemaOf(a.value)
		if other := r.Content[a.media]; other != nil {
			// This status has two shapes of its body.
			schema = &huma.Schema{OneOf: []*huma.Schema{other.Schema, schema}}
		}

		r.Content[a.media] = &huma.MediaType{Schema: schema}
	}

	most := access.MaxRequestIDBytes
	for key, r := range responses {
		if key == "default" {
			continue
		}

		headers := map[string]*huma.Param{restapi.HeaderRequestID: {
			Description: "The request's id: the client's, or a new one",
			Schema:      &huma.Schema{Type: huma.TypeString, MaxLength: &most},
		}}
		for name, h := range r.Headers {
			headers[name] = &huma.Param{Description: h.Schema.Description, Schema: &huma.Schema{Type: h.Schema.Type}}
		}

		r.Headers = headers
	}

	return responses
}

func (d documenter) schemaOf(v any) *huma.Schema {
	return d.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(v), true, "")
}

// finishSchemas adds the facts to the schemas of bodies that Go types cannot express: durations of requests are
// integers or texts, null is absent there, and answers may gain fields.
func (s *Server) finishSchemas() {
	schemas := s.api.OpenAPI().Components.Schemas
	// These are huma's own problems, which no answer contains.
	delete(schemas.Map(), "ErrorModel")
	delete(schemas.Map(), "ErrorDetail")

	requests := requestNames(s.api.OpenAPI())
	for name, schema := range schemas.Map() {
		isRequest := requests[name]
		for _, f := range reflect.VisibleFields(schemas.TypeFromRef(schemaPrefix + name)) {
			if f.Anonymous {
				continue
			}
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			optional := isRequest && !slices.Contains(schema.Required, key)
			schema.Properties[key] = finishField(f.Type, schema.Properties[key], optional)
		}
		if !isRequest && schema.AdditionalProperties == false {
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

// requestNames returns the names of the schemas of request bodies.
func requestNames(api *huma.OpenAPI) map[string]bool {
	names := map[string]bool{}
	for _, path := range api.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post, path.Put, path.Patch, path.Delete} {
			if op == nil || op.RequestBody == nil {
				continue
			}
			for _, media := range op.RequestBody.Content {
				names[strings.TrimPrefix(media.Schema.Ref, schemaPrefix)] = true
			}
		}
	}
	return names
}

// finishField completes the schema of one field of a body.
func finishField(goType reflect.Type, p *huma.Schema, optional bool) *huma.Schema {
	if goType == reflect.TypeFor[*restapi.Duration]() {
		d := input.Duration{}.Schema(nil)
		d.Description, d.Examples = p.Description, p.Examples
		if optional {
			d.OneOf = append(d.OneOf, &huma.Schema{Type: "null"})
		}
		return d
	}

	// A schema without a type allows null anyway.
	p.Nullable = optional && p.Type != ""
	if p.Nullable && len(p.Enum) > 0 {
		p.Enum = append(p.Enum, nil)
	}
	return p
}
