package transfer

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// TestImportKnowsEachFieldThatExportWrites holds the fields that import takes or leaves behind to those of a task.
func TestImportKnowsEachFieldThatExportWrites(t *testing.T) {
	known := map[string]bool{}
	for _, part := range []reflect.Type{reflect.TypeFor[restapi.NewTask](), reflect.TypeFor[exported]()} {
		for f := range part.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if known[name] {
				t.Errorf("%s is known twice", name)
			}
			known[name] = true
		}
	}
	written := reflect.TypeFor[restapi.Task]()
	for f := range written.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !known[name] {
			t.Errorf("export writes %s, and import does not know it", name)
		}
	}
}
