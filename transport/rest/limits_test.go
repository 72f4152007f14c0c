package rest_test

import (
	"encoding/json"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestLimitsInOpenAPIAreTheDomains compares the tags of input structs with the constants that the domain checks.
func TestLimitsInOpenAPIAreTheDomains(t *testing.T) {
	s := newStack(t)
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name   string
				Schema struct {
					Maximum, MaxLength int
					Items              struct{ Enum []string }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(s.do(200, "GET", "/openapi.json", "").body), &doc); err != nil {
		t.Fatal(err)
	}

	seen := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			for _, p := range op.Parameters {
				var want int
				got := p.Schema.Maximum + p.Schema.MaxLength + len(p.Schema.Items.Enum)
				switch p.Name {
				case "limit":
					want = queue.MaxPage
					if method == "put" {
						want = queue.MaxBatch
					}
				case "n":
					want = queue.MaxPreview
				case "max_bytes":
					want = queue.MaxRetainBytes
				case "worker":
					want = queue.MaxWorkerBytes
				case "request_id":
					want = queue.MaxRequestIDBytes
				case "status":
					want = len(queue.Statuses())
				case "kind":
					want = len(queue.EventKinds())
				default:
					continue
				}
				if seen++; got != want {
					t.Errorf("%s %s: %s has the limit %d, want %d", method, path, p.Name, got, want)
				}
			}
		}
	}
	if seen < 15 {
		t.Error("parameters with limits:", seen)
	}
}
