package telemetry

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// LogOptions says how a Logger writes.
type LogOptions struct {
	// JSON or human-readable lines.
	JSON bool
	// Level may be changed while the program runs; nil = info for good.
	Level *slog.LevelVar
}

// NewLogger is a logger that writes to w: with the ids of the trace that a record's context is part of, without secrets.
func NewLogger(w io.Writer, o LogOptions) *slog.Logger {
	opts := &slog.HandlerOptions{ReplaceAttr: Redact}
	if o.Level != nil {
		opts.Level = o.Level
	}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if o.JSON {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(&lossHandler{Handler: LogHandler(h), unreported: new(atomic.Int64)})
}

// lostLines counts the lines of this process's logs that could not be written, as when the reader of a pipe has gone. It
// is the metric pgqueue_log_lines_lost_total.
var lostLines atomic.Int64

// lossHandler counts the lines that next cannot write, and reports their number with the next line that it can.
type lossHandler struct {
	slog.Handler
	unreported *atomic.Int64 // shared by the handlers that WithAttrs and WithGroup derive
}

func (h *lossHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if err != nil {
		lostLines.Add(1)
		h.unreported.Add(1)
		return err
	}
	if h.unreported.Load() == 0 {
		return nil
	}

	lost := h.unreported.Swap(0)
	report := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines could not be written", 0)
	report.AddAttrs(slog.Int64("lines", lost))
	if err := h.Handler.Handle(ctx, report); err != nil {
		// The report is lost too, so the number waits for the next line.
		h.unreported.Add(lost)
	}
	return nil
}

func (h *lossHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lossHandler{Handler: h.Handler.WithAttrs(attrs), unreported: h.unreported}
}

func (h *lossHandler) WithGroup(name string) slog.Handler {
	return &lossHandler{Handler: h.Handler.WithGroup(name), unreported: h.unreported}
}

// LogHandler adds trace_id and span_id to records with a span in their context, and passes them to next.
func LogHandler(next slog.Handler) slog.Handler { return &logHandler{Handler: next} }

type logHandler struct {
	slog.Handler
	// grouped are the groups opened since the last plain handler: the ids stand outside of them.
	grouped []func(slog.Handler) slog.Handler
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return h.wrapHandler().Handle(ctx, r)
	}
	next := h.Handler.WithAttrs([]slog.Attr{
		slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()),
	})
	for _, g := range h.grouped {
		next = g(next)
	}
	return next.Handle(ctx, r)
}

func (h *logHandler) wrapHandler() slog.Handler {
	next := h.Handler
	for _, g := range h.grouped {
		next = g(next)
	}
	return next
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	// Outside of a group the attributes can stay on the plain handler, which formats them once.
	if len(h.grouped) == 0 {
		return &logHandler{Handler: h.Handler.WithAttrs(attrs)}
	}
	return h.copyWith(func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) })
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.copyWith(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h *logHandler) copyWith(g func(slog.Handler) slog.Handler) slog.Handler {
	// Clip, because two loggers derived from one must not share the array.
	return &logHandler{Handler: h.Handler, grouped: append(slices.Clip(h.grouped), g)}
}

// redacted stands for what is not logged.
const redacted = "[redacted]"

// secretKeys are the keys of attributes that are never logged, whole or at the end of a longer key.
var secretKeys = []string{"password", "passwd", "secret", "authorization", "cookie", "api_key", "apikey", "payload", "result", "dsn"}

// Redact keeps secrets and contents of tasks out of logs: it is a slog.HandlerOptions.ReplaceAttr. Attributes with a key that
// names a secret, a payload or a result are replaced, passwords in connection strings are taken out of any text.
func Redact(_ []string, a slog.Attr) slog.Attr {
	key := strings.ToLower(a.Key)
	for _, s := range secretKeys {
		if key == s || strings.HasSuffix(key, "_"+s) {
			return slog.String(a.Key, redacted)
		}
	}

	switch a.Value.Kind() {
	case slog.KindString:
		if s := a.Value.String(); mayHoldSecret(s) {
			a.Value = slog.StringValue(RedactText(s))
		}
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			// An error of the driver may quote its connection string.
			if s := v.Error(); mayHoldSecret(s) {
				a.Value = slog.StringValue(RedactText(s))
			}
		case *url.URL:
			if v != nil {
				a.Value = slog.StringValue(v.Redacted())
			}
		}
	default: // numbers and times hold no secrets; groups come attribute by attribute
	}

	return a
}

func mayHoldSecret(s string) bool {
	return strings.Contains(s, "://") || strings.Contains(s, "password")
}

// Passwords in connection strings: of a URL (in front of its host, or as a parameter), and of keywords and values.
var (
	userinfo = regexp.MustCompile(`(://[^\s:/?#@]*):[^\s/?#]*@`)
	keyword  = regexp.MustCompile(`(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'"]+)`)
)

// RedactText takes the passwords out of the connection strings in s.
func RedactText(s string) string {
	return keyword.ReplaceAllString(userinfo.ReplaceAllString(s, "$1:xxxxx@"), "${1}xxxxx")
}
