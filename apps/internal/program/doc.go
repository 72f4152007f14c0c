// Package program holds the common parts of the three programs of pgqueue: configuration from flags, environment and
// file, the connection to a database, logs, and exit codes.
package program
