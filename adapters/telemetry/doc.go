// Package telemetry decorates the queue's ports with OpenTelemetry traces and metrics: nothing else in the project
// records a span or counts a call.
package telemetry
