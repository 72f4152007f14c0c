// Package run is the composition root of the server: it connects store, manager, telemetry and transports. It is
// public, so that the command line can run a server in its own process. The separate program is cmd/pgqueue-server.
//
//	server, err := run.Start(ctx, run.Config{DataDir: dir})
//	if err != nil {
//		return err
//	}
//	defer server.Stop(context.WithoutCancel(ctx))
//	fmt.Println("listening on", server.URL())
//
// Without a database URL it starts an embedded PostgreSQL that keeps its data between runs. REST is below a prefix,
// Connect RPC and gRPC are at the root of the same port, with HTTP/1.1 and HTTP/2.
package run
