package rest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver"
)

//go:generate go test -run TestOpenAPIFileIsWhatTheCodeSays -update .

var update = flag.Bool("update", false, "write openapi.yaml")

func TestOpenAPIFileIsWhatTheCodeSays(t *testing.T) {
	version := strings.TrimPrefix(strings.TrimSpace(string(ok[[]byte](t)(os.ReadFile("../../VERSION")))), "v")
	s := newStack(t, func(c *restserver.Config) { c.Version = version })
	got := ok[[]byte](t)(s.server.OpenAPI())
	if *update {
		if err := os.WriteFile("openapi.yaml", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := ok[[]byte](t)(os.ReadFile("openapi.yaml")); !bytes.Equal(got, want) {
		t.Error("openapi.yaml is not what the code says; run: make generate")
	}
	if a := s.do(200, "GET", "/openapi.yaml", ""); a.body != strings.TrimSpace(string(got)) {
		t.Error("/openapi.yaml differs")
	}
}

func TestOpenAPIDescribesEverything(t *testing.T) {
	s := newStack(t)
	var doc struct {
		OpenAPI    string `json:"openapi"`
		Paths      map[string]map[string]struct{ OperationID, Summary string }
		Components struct {
			Schemas map[string]struct {
				Properties map[string]map[string]any
			}
		}
	}
	if err := json.Unmarshal([]byte(s.do(200, "GET", "/openapi.json", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Error("version", doc.OpenAPI)
	}
	for _, r := range restapi.Routes() {
		if op := doc.Paths[r.Path][strings.ToLower(r.Method)]; op.OperationID != r.ID || op.Summary == "" {
			t.Errorf("%s %s: %+v", r.Method, r.Path, op)
		}
	}
	if len(doc.Components.Schemas) < 15 {
		t.Error("too few schemas:", len(doc.Components.Schemas))
	}
	for name, schema := range doc.Components.Schemas {
		for field, p := range schema.Properties {
			_, ref := p["$ref"]
			items, _ := p["items"].(map[string]any)
			if p["description"] == nil {
				t.Errorf("%s.%s has no description", name, field)
			}
			if p["examples"] == nil && !ref && items["$ref"] == nil {
				t.Errorf("%s.%s has no example: %v", name, field, p)
			}
		}
	}
}

func TestDocsLoadNothingFromElsewhere(t *testing.T) {
	s := newStack(t)
	page := s.do(200, "GET", "/docs", "")
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self'") || strings.Contains(csp, "http") {
		t.Error("policy", csp)
	}
	loads := 0
	for part := range strings.SplitSeq(page.body, `"`) {
		if strings.HasPrefix(part, "http") || strings.HasPrefix(part, "//") {
			t.Error("the page loads", part)
		}
		if strings.HasPrefix(part, "docs/") {
			part = "/" + part
			loads++
			for _, encoding := range []string{"gzip", "identity"} {
				if f := s.do(200, "GET", part, "", "Accept-Encoding", encoding); len(f.body) < 100 || (f.header.Get("Content-Encoding") == "gzip") != (encoding == "gzip" && len(f.body) > 10_000) {
					t.Error(part, encoding, f.header, len(f.body))
				}
			}
		}
	}
	if loads != 4 {
		t.Error("the page loads", loads, "files")
	}
	if s.do(200, "GET", "/docs/", "").body != page.body {
		t.Error("/docs/ is not /docs")
	}
	s.do(404, "GET", "/docs/nothing.js", "")
}
