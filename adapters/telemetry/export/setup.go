// Package export makes the telemetry of a program: metrics for Prometheus to scrape, and traces and metrics sent by
// OTLP where the standard environment variables ask for it. It is apart from package telemetry because the exporters
// bring a lot along that a program which only decorates does not need.
//
//	tel, shutdown, err := export.Setup(ctx, export.Config{Service: "pgqueue-server", Version: version})
//	...
//	defer shutdown(context.WithoutCancel(ctx))
//
// Nothing is sent unless a variable says so:
//
//	OTEL_EXPORTER_OTLP_ENDPOINT          sends traces and metrics there (http://collector:4318)
//	OTEL_EXPORTER_OTLP_PROTOCOL          http/protobuf (default) or grpc
//	OTEL_TRACES_EXPORTER                 otlp, console or none
//	OTEL_METRICS_EXPORTER                otlp, console, prometheus or none
//	OTEL_TRACES_SAMPLER[_ARG]            parentbased_traceidratio and 0.01, for example; without it a process records up to
//	                                     10 new traces a second
//	OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_SDK_DISABLED
package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/pgqueue/pgqueue/adapters/telemetry"
)

// Config names the program that reports.
type Config struct {
	// Service is service.name unless OTEL_SERVICE_NAME says otherwise, as "pgqueue-server".
	Service string
	// Version of the program.
	Version string
	// Logger takes what the exporters say, as that a collector does not answer; nil = slog.Default().
	Logger *slog.Logger
	// Options of the Telemetry, beside those that Setup makes.
	Options []telemetry.Option
}

// FlushTimeout bounds what Shutdown takes to send what is left: a collector that is down or hangs must not hold up the end
// of a program, which has better things to do in the time that it has left.
const FlushTimeout = 3 * time.Second

// Shutdown sends what is left and ends the exporters' goroutines, until ctx ends, at most for FlushTimeout. It may be
// called again.
type Shutdown func(ctx context.Context) error

// Setup makes the Telemetry of this process. The registry also has the metrics of the Go runtime and of the process.
// The same registry is what OTLP sends: one source of truth. An error names the variable that it cannot make sense of.
func Setup(ctx context.Context, cfg Config) (*telemetry.Telemetry, Shutdown, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s := &setup{cfg: cfg, registry: reg}
	// Before the exporters, because their first attempt may fail at once.
	s.logExporterErrors()
	opts := append([]telemetry.Option{telemetry.WithRegistry(reg), telemetry.WithVersion(cfg.Version)}, cfg.Options...)
	if err := s.startExporters(ctx); err != nil {
		return nil, nil, errors.Join(err, s.shutdownExporters(ctx))
	}

	if s.traces != nil {
		opts = append(opts, telemetry.WithTracerProvider(s.traces))
	}

	tel, err := telemetry.New(opts...)
	if err != nil {
		return nil, nil, errors.Join(err, s.shutdownExporters(ctx))
	}

	return tel, s.shutdownExporters, nil
}

type setup struct {
	cfg      Config
	registry *prometheus.Registry
	traces   *sdktrace.TracerProvider
	metrics  *metric.MeterProvider
	once     sync.Once
	err      error
}

func (s *setup) startExporters(ctx context.Context) error {
	traces, metrics := isSignalWanted("TRACES"), isSignalWanted("METRICS")
	if !traces && !metrics {
		return nil
	}

	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithAttributes(semconv.ServiceName(s.cfg.Service), semconv.ServiceVersion(s.cfg.Version)), resource.WithFromEnv())
	// A host without some of the facts still reports: its telemetry lacks these attributes.
	if err != nil && !errors.Is(err, resource.ErrPartialResource) && !errors.Is(err, resource.ErrSchemaURLConflict) {
		return fmt.Errorf("telemetry: describe this process: %w", err)
	}

	if traces {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return fmt.Errorf("telemetry: export traces (see OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_*): %w", err)
		}
		if !autoexport.IsNoneSpanExporter(exporter) {
			opts := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(exporter), sdktrace.WithResource(res)}
			// The SDK reads the variable by itself, and a sampler of ours would win over it.
			if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
				opts = append(opts, sdktrace.WithSampler(Sampler(DefaultTraces)))
			}
			s.traces = sdktrace.NewTracerProvider(opts...)
		}
	}

	if metrics {
		reader, err := s.newMetricReader(ctx)
		if err != nil {
			return fmt.Errorf("telemetry: export metrics (see OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_*): %w", err)
		}
		if !autoexport.IsNoneMetricReader(reader) {
			s.metrics = metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(res))
		}
	}

	return nil
}

// reportEvery is the shortest time between two log records of exporter errors.
const reportEvery = time.Minute

// logExporterErrors sends the errors of the SDK to the log instead of standard error, at once and then not more
// often than every reportEvery: a collector that is down makes each export fail.
func (s *setup) logExporterErrors() {
	log := s.cfg.Logger
	if log == nil {
		log = slog.Default()
	}

	var mu sync.Mutex
	var reported time.Time
	var since int
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		since++
		// The count is read under the lock, the log is written without it.
		n := since
		due := reported.IsZero() || time.Since(reported) >= reportEvery
		if due {
			reported = time.Now()
			since = 0
		}
		mu.Unlock()
		if due {
			log.Warn("telemetry was not sent; work goes on", "err", err, "times", n)
		}
	}))
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
}

// producing guards autoexport's one producer of a process.
var producing sync.Mutex

// newMetricReader sends what the registry has.
func (s *setup) newMetricReader(ctx context.Context) (metric.Reader, error) {
	producing.Lock()
	defer producing.Unlock()
	autoexport.WithFallbackMetricProducer(func(context.Context) (metric.Producer, error) {
		return bridge.NewMetricProducer(bridge.WithGatherer(s.registry)), nil
	})
	return autoexport.NewMetricReader(ctx)
}

// isSignalWanted says that the environment asks for a signal to be sent. By the specification the default is to send everything
// to localhost; without a collector the program would log errors for ever.
func isSignalWanted(signal string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if exporter := os.Getenv("OTEL_" + signal + "_EXPORTER"); exporter != "" {
		return exporter != "none"
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

func (s *setup) shutdownExporters(ctx context.Context) error {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, FlushTimeout)
		defer cancel()
		var traces, metrics error
		var both sync.WaitGroup
		if s.traces != nil {
			// Side by side, as each may use up the whole timeout.
			both.Go(func() { traces = s.traces.Shutdown(ctx) })
		}
		if s.metrics != nil {
			both.Go(func() { metrics = s.metrics.Shutdown(ctx) })
		}
		both.Wait()
		s.err = errors.Join(traces, metrics)
	})

	return s.err
}
