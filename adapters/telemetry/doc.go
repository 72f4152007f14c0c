// Package telemetry lets operators see inside: metrics for Prometheus, traces by OpenTelemetry, logs with trace ids,
// and health. It decorates the queue's ports; nothing else in the project records a span or counts a call.
//
//	tel, err := telemetry.New(telemetry.WithTracerProvider(provider))
//	...
//	store = tel.Store(store)             // counts what moves, times each call
//	tel.WatchQueues(store)               // queue_tasks and its kin, read when scraped
//	m, err := manager.New(store)
//	svc := tel.Service(m)                // spans for producers and consumers, open streams
//	w := worker.New(svc, worker.WithObserver(tel.Observer()))
//	w.Use(tel.Middleware())              // a span around each handler, linked to the task's creation
//	mux.Handle("/metrics", tel.Handler())
//
// Without metrics and without a tracer provider the decorators return their argument, so they cost nothing.
// Package telemetry/export makes the providers that the standard environment variables (OTEL_…) ask for.
//
// Names of spans and attributes are in attributes.go, names of metrics in meters.go. No label is unbounded: queues
// beyond a limit share the label "other", and neither task ids nor error texts are ever labels. Payloads and results
// are never recorded.
package telemetry
