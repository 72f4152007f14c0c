package telemetry_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := telemetry.NewLogger(&out, telemetry.LogOptions{JSON: true, Level: level})
	line := func(f func()) string {
		out.Reset()
		f()
		return out.String()
	}
	ctx, span := sdktrace.NewTracerProvider().Tracer("t").Start(t.Context(), "s")
	defer span.End()
	id := span.SpanContext().TraceID().String()

	t.Run("a record inside a trace has its ids", func(t *testing.T) {
		got := line(func() { log.InfoContext(ctx, "hello") })
		if !strings.Contains(got, `"trace_id":"`+id+`"`) || !strings.Contains(got, `"span_id":"`+span.SpanContext().SpanID().String()+`"`) {
			t.Error(got)
		}
	})
	t.Run("the ids stand outside of groups", func(t *testing.T) {
		got := line(func() { log.With("a", 1).WithGroup("g").With("b", 2).InfoContext(ctx, "hello", "c", 3) })
		if !strings.Contains(got, `"a":1,"trace_id":"`+id) || !strings.Contains(got, `"g":{"b":2,"c":3}`) {
			t.Error(got)
		}
	})
	t.Run("a record outside has none", func(t *testing.T) {
		got := line(func() { log.WithGroup("g").Info("hello", "c", 3) })
		if strings.Contains(got, "trace_id") || !strings.Contains(got, `"g":{"c":3}`) {
			t.Error(got)
		}
	})
	t.Run("the level changes while it runs", func(t *testing.T) {
		if got := line(func() { log.Debug("hidden") }); got != "" {
			t.Error(got)
		}
		level.Set(slog.LevelDebug)
		if got := line(func() { log.Debug("shown") }); !strings.Contains(got, "shown") {
			t.Error(got)
		}
	})
	t.Run("for people there are lines of text", func(t *testing.T) {
		telemetry.NewLogger(&out, telemetry.LogOptions{}).Info("hello", "a", 1)
		if got := out.String(); !strings.Contains(got, "msg=hello a=1") {
			t.Error(got)
		}
	})
	t.Run("neither secrets nor contents of tasks are logged", func(t *testing.T) {
		u, err := url.Parse("postgres://me:hunter2@host/db")
		if err != nil {
			t.Fatal(err)
		}
		for _, attr := range []slog.Attr{
			slog.String("url", "postgres://me:hunter2@host/db"),
			slog.String("url", "postgres://host/db?user=me&password=hunter2&x=y"),
			slog.String("error", "cannot connect to host=h password=hunter2 dbname=d"),
			slog.String("error", `host=h password = 'hunter2 with \' quote' dbname=d`),
			slog.Any("error", errors.New("parse postgres://me:hunter2@host/db: no")),
			slog.Any("where", u),
			slog.String("password", "hunter2"), slog.String("db_password", "hunter2"), slog.String("authorization", "Bearer hunter2"),
			slog.Any("payload", []byte(`"hunter2"`)), slog.String("result", "hunter2"),
			slog.Group("g", slog.String("dsn", "hunter2")),
		} {
			got := line(func() { log.LogAttrs(t.Context(), slog.LevelInfo, "m", attr) })
			if strings.Contains(got, "hunter2") {
				t.Errorf("%v: %s", attr, got)
			}
			if got == "" {
				t.Errorf("%v: nothing", attr)
			}
		}
		got := line(func() { log.Info("m", "url", "postgres://me:hunter2@host/db") })
		if !strings.Contains(got, "postgres://me:xxxxx@host/db") {
			t.Errorf("the rest is gone: %s", got)
		}
		if got := line(func() { log.Info("m", "url", "http://localhost:8080/api") }); !strings.Contains(got, "http://localhost:8080/api") {
			t.Errorf("a harmless URL is changed: %s", got)
		}
	})
}

// brokenPipe is a reader of a log that goes away and comes back.
type brokenPipe struct {
	bytes.Buffer
	gone bool
}

func (f *brokenPipe) Write(b []byte) (int, error) {
	if f.gone {
		return 0, errors.New("broken pipe")
	}
	return f.Buffer.Write(b)
}

func TestLostLinesAreCounted(t *testing.T) {
	var out brokenPipe
	log := telemetry.NewLogger(&out, telemetry.LogOptions{JSON: true}).With("a", 1)
	tel, err := telemetry.New()
	if err != nil {
		t.Fatal(err)
	}
	lost := func() float64 {
		t.Helper()
		families, err := tel.Registry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "pgqueue_log_lines_lost_total" {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		t.Fatal("the metric is missing")
		return 0
	}

	before := lost()
	out.gone = true
	log.Info("first")
	log.With("b", 2).Info("second")
	if got := lost() - before; got != 2 {
		t.Errorf("%v lines were counted, not 2", got)
	}
	out.gone = false
	log.Info("third")
	log.Info("fourth")
	if got := out.String(); strings.Count(got, `"lines":2`) != 1 || strings.Index(got, "third") > strings.Index(got, `"lines":2`) || strings.Count(got, "\n") != 3 {
		t.Error(got)
	}
}
