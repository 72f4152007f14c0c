package telemetry_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// TestEachOperationIsMeasured calls each operation of a service with empty arguments. The call fails, or does nothing, and
// is measured under the operation's label. Streams have a gauge instead.
func TestEachOperationIsMeasured(t *testing.T) {
	s := newStack(t)
	admin := s.tel.Admin(access.NewAdmin(memory.NewTokens(nil), access.AdminOptions{}))
	for _, op := range slices.Concat(queue.ServiceOps(), queue.AdminOps()) {
		row := op.Operation()
		method := reflect.ValueOf(s.svc).MethodByName(row.Method)
		if row.Role == "Admin" {
			method = reflect.ValueOf(admin).MethodByName(row.Method)
		}
		if row.Cost == queue.CostStream || !method.IsValid() {
			continue
		}

		count := method.Type().NumIn()
		if method.Type().IsVariadic() {
			count--
		}
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < count; i++ {
			args = append(args, reflect.Zero(method.Type().In(i)))
		}
		method.Call(args)

		if s.value("pgqueue_service_call_seconds", "op", op.Label()) == 0 {
			t.Errorf("%s: must be measured as op=%q in pgqueue_service_call_seconds", row.Method, op.Label())
		}
	}
}
