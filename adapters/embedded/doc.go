// Package embedded starts a PostgreSQL of its own on this machine and stops it
// again. It gives a DSN for a try-out, a laptop or a test, without an installed
// service, a password to choose or a database to create.
//
// # What it does
//
// [Start] finds server binaries (PATH, pg_config, the usual folders of the
// packagers), fetches some once where there are none, initialises a data folder
// that is kept between runs, picks a free port of 127.0.0.1, waits until the
// server is ready and makes sure that the database "pgqueue" exists.
// [Server.Stop] ends it.
//
//	server, err := embedded.Start(ctx)
//	if err != nil {
//		return err
//	}
//	defer server.Stop(context.WithoutCancel(ctx))
//	pool, err := pgxpool.New(ctx, server.DSN())
//
// It copes with ends that were not clean: after a kill -9 of the program, of
// PostgreSQL or of both, the next Start takes the folder over and PostgreSQL
// recovers what was committed.
//
// # What it is not
//
// It knows nothing of queues and runs no SQL of theirs. It is no way to run a
// production server: no backups, no replication, no upgrade from one major
// version to the next (a folder of another major version is refused).
//
// # Who gets in
//
// PostgreSQL listens on 127.0.0.1 alone and asks for a password (SCRAM), which
// is generated and kept in the data folder, readable by its owner only. There
// is no Unix socket. fsync, full_page_writes and synchronous_commit are on
// unless [WithSetting] says otherwise.
//
// # Started as root
//
// PostgreSQL refuses to run as root. Started as root, this package runs it as
// the owner of the data folder (or, for a new one, of the nearest existing
// parent), as the user "postgres" where that owner is root, else as "nobody".
// The data folder belongs to that user.
//
// # Layout of the data folder
//
//	data/          PostgreSQL's own data directory
//	data.new/      the same while it is being made; removed at the next start
//	password       the superuser's password, mode 0600
//	port           the port of the last run, tried first at the next
//	owner.lock     locked by the program that owns the folder
//	server.lock    locked by PostgreSQL's processes as long as one lives
//
// # Platforms
//
// Linux, macOS and the BSDs, with PostgreSQL 14 or newer. Elsewhere Start
// returns [ErrUnsupported].
package embedded
