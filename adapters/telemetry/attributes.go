package telemetry

import (
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// The one place that knows OpenTelemetry's names: the messaging conventions of semantic conventions 1.43 (status:
// development), and ours under "pgqueue.". Span names are "{operation} {queue}", or the operation alone where several
// queues are concerned.

// ScopeName is the instrumentation scope of every span.
const ScopeName = "github.com/pgqueue/pgqueue/adapters/telemetry"

// schemaURL says which version of the conventions the names follow.
const schemaURL = semconv.SchemaURL

// Operations on messages, as messaging.operation.name says them.
const (
	nameSend     = "send"
	nameReceive  = "receive"
	nameProcess  = "process"
	nameAck      = "ack"
	nameNack     = "nack"
	nameHandBack = "handback"
	nameSnooze   = "snooze"
	nameSettle   = "settle"
)

// Keys of our own.
const (
	keyNamespace = attribute.Key("pgqueue.namespace")
	keyAttempt   = attribute.Key("pgqueue.attempt")
	keyToken     = attribute.Key("pgqueue.lease_token")
	keyOutcome   = attribute.Key("pgqueue.outcome")
	keyReplayed  = attribute.Key("pgqueue.replayed")
	keyOperation = attribute.Key("pgqueue.operation")
	keyCause     = attribute.Key("pgqueue.cause")
)

var attrSystem = semconv.MessagingSystemKey.String("pgqueue")

// operation is one of messaging: its name, its type, its kind of span.
type operation struct {
	name string
	kind trace.SpanKind
	typ  attribute.KeyValue
}

var (
	opSend    = operation{nameSend, trace.SpanKindProducer, semconv.MessagingOperationTypeSend}
	opReceive = operation{nameReceive, trace.SpanKindClient, semconv.MessagingOperationTypeReceive}
	opProcess = operation{nameProcess, trace.SpanKindConsumer, semconv.MessagingOperationTypeProcess}
	opSettle  = operation{nameSettle, trace.SpanKindClient, semconv.MessagingOperationTypeSettle}
)

// settleOperation returns the operation of releases that all have the outcome o; "" = several outcomes.
func settleOperation(o queue.Outcome) operation {
	op := opSettle
	switch o {
	case queue.OutcomeSuccess:
		op.name = nameAck
	case queue.OutcomeFailure, queue.OutcomePermanent:
		op.name = nameNack
	case queue.OutcomeHandBack:
		op.name = nameHandBack
	case queue.OutcomeSnooze:
		op.name = nameSnooze
	}
	return op
}

// spanName is "{operation} {queue}".
func (o operation) spanName(name string) string {
	if name == "" {
		return o.name
	}
	return o.name + " " + name
}

// describe is what every span of messaging has. name "" = several queues.
func (o operation) describe(namespace, name string) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 10)
	attrs = append(attrs, attrSystem, semconv.MessagingOperationNameKey.String(o.name), o.typ, keyNamespace.String(namespace))
	if name != "" {
		attrs = append(attrs, semconv.MessagingDestinationNameKey.String(name))
	}
	return attrs
}

func attrTask(id int64) attribute.KeyValue {
	return semconv.MessagingMessageIDKey.String(strconv.FormatInt(id, 10))
}

func attrSize(n int) attribute.KeyValue { return semconv.MessagingMessageBodySizeKey.Int(n) }

func attrBatch(n int) attribute.KeyValue { return semconv.MessagingBatchMessageCountKey.Int(n) }

func attrWorker(name string) attribute.KeyValue { return semconv.MessagingClientIDKey.String(name) }

// attrError is the kind of an error. The text of an error may hold secrets, so it is not recorded.
func attrError(kind string) attribute.KeyValue { return semconv.ErrorTypeKey.String(kind) }

// Attributes of a server's span.
func attrMethod(m string) attribute.KeyValue { return semconv.HTTPRequestMethodKey.String(m) }
func attrRoute(r string) attribute.KeyValue  { return semconv.HTTPRoute(r) }
func attrStatus(s int) attribute.KeyValue    { return semconv.HTTPResponseStatusCode(s) }
func attrPath(p string) attribute.KeyValue   { return semconv.URLPath(access.HideSecrets(p)) }
func attrScheme(s string) attribute.KeyValue { return semconv.URLScheme(s) }
