// Package server puts the server together: store, manager, telemetry, transports. It is public so that the command
// line can run a server inside itself; the program of its own is cmd/pgqueue-server.
package server
