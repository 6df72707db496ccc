// Package testenv finds, fetches and starts the real servers (PostgreSQL, Redis, Pulsar) of tests, demo and benchmark. Nothing else does.
//
// # Where a server comes from
//
//   - Postgres, Redis and Pulsar return the server that OUTBOXD_TEST_POSTGRES_URL, OUTBOXD_TEST_REDIS_URL, or OUTBOXD_TEST_PULSAR_URL and
//     OUTBOXD_TEST_PULSAR_ADMIN_URL name; without them they start one for the test process, shared by its tests.
//   - Every other function starts a server of its own, from installed binaries first, then from pinned versions kept in the user's
//     cache folder (os.UserCacheDir, outboxd below it), downloaded when they are missing and checked against checksums in this package.
//   - OUTBOXD_TEST_POSTGRES_VERSION (12 to 18) chooses the version of PostgreSQL where an option does not, OUTBOXD_TEST_PULSAR_VERSION
//     (3.3.6, 4.0.8) that of Pulsar, and OUTBOXD_TEST_REDIS_SERVER the program that is Redis: another Redis, or Valkey. make matrix uses them.
//
// # What it guarantees
//
//   - A server listens on 127.0.0.1 only, on ports that were free, and is ready when the function returns: it has answered a client.
//   - Several servers, and several processes that use this package, run side by side.
//   - It works as root (PostgreSQL then runs as the user postgres or nobody) and as a normal user.
//   - Nothing is left behind, however the process ends, kill -9 included: each server has a folder for all its files and a helper process
//     that ends the server and removes the folder once its pipe to this process is closed. No child inherits any other descriptor.
//   - A server with a disk of its own lets a test fill it (Disk in its options), and a PostgreSQL with a clock of its own step that (Clock).
//   - No goroutine runs between calls, so that goleak has nothing to say.
//   - PostgresServer.Standby makes a standby that commits wait for, and Promote makes it the primary.
//
// # What it does not
//
//   - A server's data lasts as long as the server's value: Kill, Stop and Start keep it, Close and the end of the process remove it.
//   - A server is not for concurrent use, but for its clients: one goroutine at a time calls Kill, Stop, Start and Close.
//   - kill -9 of the helper processes themselves, and a machine that stops, leave folders named outboxd-* in os.TempDir.
//
// # On failure
//
//   - A machine that cannot run a server skips the test, naming what is missing; with CI set the test fails instead. The functions
//     without testing.TB return an error that is ErrUnavailable.
//   - A server that does not become ready is an error with the end of its log.
package testenv
