package queuetest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// filledMeta returns a TaskMeta with a value in each field but its times. Fields that TaskMeta gets later are filled by
// their type, so a place that forgets one of them is found without a change of the suite.
func filledMeta() queue.TaskMeta {
	var meta queue.TaskMeta
	for field, value := range reflect.ValueOf(&meta).Elem().Fields() {
		switch to := value.Addr().Interface().(type) {
		case *time.Time, *time.Duration, *queue.KeyRule: // a rule is not kept with the task
		case *json.RawMessage:
			*to = json.RawMessage(`{"of":"` + field.Name + `"}`)
		case *map[string]string:
			*to = map[string]string{"traceparent": field.Name} // telemetry adds this header where a caller gives none
		case *string:
			*to = strings.ToLower(field.Name)
		case *int16:
			*to = -5
		default:
			panic("queuetest: no value for the type of the field " + field.Name + " of TaskMeta; add one here")
		}
	}
	return meta
}

// checkFields compares the fields of meta with the fields of the same name of t, the task that place gave.
func checkFields(tb testing.TB, place string, t *queue.Task, meta queue.TaskMeta) {
	tb.Helper()
	task := reflect.ValueOf(t).Elem()
	for field, want := range reflect.ValueOf(meta).Fields() {
		if want.IsZero() {
			continue
		}

		got := task.FieldByName(field.Name)
		if !got.IsValid() {
			tb.Errorf("queue.Task has no field %s, which queue.TaskMeta has", field.Name)
		} else if !reflect.DeepEqual(got.Interface(), want.Interface()) {
			tb.Errorf("%s: the field %s is %v, want %v", place, field.Name, got, want)
		}
	}
}
