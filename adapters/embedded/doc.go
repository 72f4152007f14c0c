// Package embedded starts and stops a private PostgreSQL server on this machine. It returns a DSN for a trial, a
// laptop or a test. The machine needs no installed service; the user chooses no password and creates no database.
//
// # Start and stop
//
// [Start] takes these steps:
//
//   - It searches for server binaries in PATH, through pg_config and in the usual folders of package managers. It
//     downloads them once where it finds none.
//   - It initialises a data folder, which stays between runs.
//   - It chooses a free port of 127.0.0.1 and waits until the server accepts connections.
//   - It creates the database "pgqueue" where that is missing.
//
// [Server.Stop] ends the server.
//
//	server, err := embedded.Start(ctx)
//	if err != nil {
//		return err
//	}
//	defer server.Stop(context.WithoutCancel(ctx))
//	pool, err := pgxpool.New(ctx, server.DSN())
//
// A kill -9 of the program, of PostgreSQL or of both loses no committed data. The next Start takes over the folder,
// and PostgreSQL recovers the committed transactions.
//
// # Limits
//
// The package does not know queues and runs no SQL of theirs. It is not made for production: it has no backups, no
// replication and no upgrade between major versions. Start refuses a folder of another major version.
//
// # Access
//
// PostgreSQL listens on 127.0.0.1 only and asks for a password (SCRAM). The package generates the password and keeps
// it in the data folder, where only the owner can read it. There is no Unix socket. The settings fsync,
// full_page_writes and synchronous_commit are on unless [WithSetting] changes them.
//
// # Start as root
//
// PostgreSQL refuses to run as root. A root process therefore runs it as the owner of the data folder. For a new
// folder that is the owner of the nearest existing parent. Where the owner is root too, the user "postgres" or else
// `nobody` runs it. The data folder belongs to that user.
//
// # Layout of the data folder
//
//	data/          data directory of PostgreSQL
//	data.new/      the same during initialisation; the next start removes it
//	password       password of the superuser, mode 0600
//	port           port of the last run; the next run tries it first
//	owner.lock     locked by the program that owns the folder
//	server.lock    locked by the processes of PostgreSQL while one of them lives
//
// # Platforms
//
// The package runs on Linux, macOS and the BSDs, with PostgreSQL 14 or newer. Elsewhere Start returns
// [ErrUnsupported].
package embedded
