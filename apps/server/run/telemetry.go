package run

import (
	"context"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgqueue/pgqueue/adapters/postgres"
	"github.com/pgqueue/pgqueue/adapters/telemetry"
	"github.com/pgqueue/pgqueue/adapters/telemetry/export"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// startTelemetry starts /metrics and the exporters that the OTEL_ variables configure.
func (s *Server) startTelemetry(ctx context.Context) error {
	tel, shutdown, err := export.Setup(ctx, export.Config{Service: "pgqueue-server", Version: s.cfg.Version, Logger: s.log})
	if err != nil {
		return wrapKind(queue.KindInvalid, "start telemetry", err)
	}
	s.tel, s.health = tel, telemetry.NewHealth()
	s.prependStep("flush telemetry", func(ctx context.Context) error {
		if err := shutdown(ctx); err != nil {
			// Lost telemetry breaks no promise of the server.
			s.log.WarnContext(ctx, "the last telemetry was not sent", "err", err)
		}
		return nil
	})
	return nil
}

// observe wraps store with telemetry and registers its gauges.
func (s *Server) observe(store queue.Store) (queue.Store, error) {
	if err := s.tel.WatchQueues(store); err != nil {
		return nil, err
	}
	if pg, ok := queue.StoreAs[*postgres.Store](store); ok {
		if err := s.tel.WatchPool(func() telemetry.PoolStat { return pg.Pool().Stat() }); err != nil {
			return nil, err
		}
	}
	return s.tel.Store(store), nil
}

// watchHealth registers the checks behind readiness.
func (s *Server) watchHealth() error {
	s.health.Add("store", s.manager.Ping)
	s.health.AddNotice("background", telemetry.ChoresCheck(s.manager.Health))
	return s.tel.WatchHealth(s.health)
}

// pgxTracer records the statements of traces that are already recorded. It starts no trace, because background work
// and polls would fill them. It omits the values of parameters.
type pgxTracer struct{ *otelpgx.Tracer }

func newPgxTracer(tp trace.TracerProvider) pgxTracer {
	return pgxTracer{otelpgx.NewTracer(otelpgx.WithTracerProvider(tp))}
}

func recorded(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// TraceQueryStart begins the span of a statement.
func (t pgxTracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !recorded(ctx) {
		return ctx
	}
	return t.Tracer.TraceQueryStart(ctx, conn, data)
}

// TraceBatchStart begins the span of a batch.
func (t pgxTracer) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	if !recorded(ctx) {
		return ctx
	}
	return t.Tracer.TraceBatchStart(ctx, conn, data)
}

// TraceBatchQuery records one statement of a batch.
func (t pgxTracer) TraceBatchQuery(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	if recorded(ctx) {
		t.Tracer.TraceBatchQuery(ctx, conn, data)
	}
}

// TraceCopyFromStart begins the span of a copy.
func (t pgxTracer) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	if !recorded(ctx) {
		return ctx
	}
	return t.Tracer.TraceCopyFromStart(ctx, conn, data)
}

// TracePrepareStart begins the span of a preparation.
func (t pgxTracer) TracePrepareStart(ctx context.Context, conn *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	if !recorded(ctx) {
		return ctx
	}
	return t.Tracer.TracePrepareStart(ctx, conn, data)
}

// TraceConnectStart begins the span of a connect.
func (t pgxTracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	if !recorded(ctx) {
		return ctx
	}
	return t.Tracer.TraceConnectStart(ctx, data)
}
