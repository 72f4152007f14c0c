package access

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// changed is an object before and after a change. M is the type of the settings that a caller gives, as queue.QueueMeta, and T
// the object, as queue.Queue. Each setting is a field of M that can be absent, and a field of T of the same name.
type changed[M, T any] struct {
	given         M
	before, after *T // nil = it did not exist, or does not exist any more
	// between reports whether another change may have come between the two.
	between bool
}

// list returns the settings that the change has set. Of an object that is new or gone it returns the settings that are not
// zero. Where another change came between, the old values are not known, and the settings that the caller gave count as changed.
// Settings of an embedded struct, as queue.FlowMeta, are among them.
func (c changed[M, T]) list() []AuditChange {
	given := reflect.ValueOf(c.given)
	var changes []AuditChange
	for _, field := range reflect.VisibleFields(given.Type()) {
		if field.Type.Kind() != reflect.Pointer && field.Type.Kind() != reflect.Slice {
			continue // the name, a condition, or an embedded struct
		}

		one := AuditChange{Field: snakeCase(field.Name)}
		old, hasOld := settingOf(c.before, field.Name)
		next, hasNew := settingOf(c.after, field.Name)
		switch {
		case c.between:
			if given.FieldByIndex(field.Index).IsZero() {
				continue
			}
			one.New = formatSetting(next)
		case hasOld && hasNew:
			if equalSettings(old, next) {
				continue
			}
			one.Old, one.New = formatSetting(old), formatSetting(next)
		case hasNew && !next.IsZero():
			one.New = formatSetting(next)
		case hasOld && !old.IsZero():
			one.Old = formatSetting(old)
		default:
			continue
		}
		changes = append(changes, one)
	}
	return changes
}

// settingOf returns the field of an object; false without an object.
func settingOf[T any](object *T, name string) (reflect.Value, bool) {
	if object == nil {
		return reflect.Value{}, false
	}
	return reflect.ValueOf(object).Elem().FieldByName(name), true
}

func equalSettings(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice {
		// A nil list equals an empty one: the wires do not keep the difference.
		return a.Len() == b.Len() && reflect.DeepEqual(a.Interface(), b.Interface()) || a.Len()+b.Len() == 0
	}
	return a.Equal(b)
}

// formatSetting returns a setting as text. A payload is content, so the audit has its size alone.
func formatSetting(v reflect.Value) string {
	if payload, ok := reflect.TypeAssert[json.RawMessage](v); ok {
		return fmt.Sprintf("%d bytes", len(payload))
	}
	if texts, ok := reflect.TypeAssert[[]string](v); ok {
		return strings.Join(texts, ",")
	}
	return fmt.Sprint(v.Interface())
}

// snakeCase returns the name of a setting outside of Go: "retry_max_delay" for "RetryMaxDelay", "fifo_batch" for "FIFOBatch".
func snakeCase(field string) string {
	letters := []rune(field)
	var name strings.Builder
	for i, r := range letters {
		// A word begins after a small letter, and with the last of several capitals.
		isLast := i+1 < len(letters) && unicode.IsLower(letters[i+1])
		if i > 0 && unicode.IsUpper(r) && (isLast || unicode.IsLower(letters[i-1])) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(r))
	}
	return name.String()
}

// changesOfQueue returns what a call with the settings given has changed. Each update adds 1 to the version, and a new queue
// has the version 1.
func changesOfQueue(given queue.QueueMeta, before, after *queue.Queue) []AuditChange {
	c := changed[queue.QueueMeta, queue.Queue]{given: given, before: before, after: after}
	switch {
	case after == nil: // deleted, and before is as it was then
	case before == nil:
		c.between = after.Version > 1
	default:
		c.between = after.Version != before.Version+1 || !after.CreatedAt.Equal(before.CreatedAt)
	}
	return c.list()
}

// changesOfTicker is [changesOfQueue] for a ticker.
func changesOfTicker(given queue.TickerMeta, before, after *queue.Ticker) []AuditChange {
	c := changed[queue.TickerMeta, queue.Ticker]{given: given, before: before, after: after}
	switch {
	case after == nil:
	case before == nil:
		c.between = after.Version > 1
	default:
		c.between = after.Version != before.Version+1 || !after.CreatedAt.Equal(before.CreatedAt)
	}
	return c.list()
}

// changesOfGroup returns the settings that a call gave. A group has no version, so its values before are not known.
func changesOfGroup(given queue.GroupMeta, after *queue.Group) []AuditChange {
	return changed[queue.GroupMeta, queue.Group]{given: given, after: after, between: true}.list()
}
