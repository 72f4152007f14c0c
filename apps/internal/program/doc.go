// Package program is what the three programs of pgqueue have in common: configuration from flags, environment and file,
// how they reach a database, their logs, and their exit codes.
package program
