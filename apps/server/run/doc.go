// Package run is the composition root of the server: it puts store, manager, telemetry and transports together. It is
// public so that the command line can run a server inside itself; the program of its own is cmd/pgqueue-server.
//
//	server, err := run.Start(ctx, run.Config{DataDir: dir})
//	if err != nil {
//		return err
//	}
//	defer server.Stop(context.WithoutCancel(ctx))
//	fmt.Println("listening on", server.URL())
//
// Without a database URL it starts an embedded PostgreSQL that keeps its data between runs. REST hangs under a prefix,
// Connect RPC and gRPC at the root of the same port, with and without HTTP/2.
package run
