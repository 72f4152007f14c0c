// Package queue is the heart of pgqueue: its nouns, its limits, its errors, the rules of a task's life as pure
// functions, and the two ports.
//
// [Service] is the driving port: callers use it in process or over the wire. [Store] is the driven port: what
// persistence gives. The rules (the transition table, backoff, expiry, names, limits) live here once; the memory
// store calls them, the SQL of the PostgreSQL store mirrors them, and the conformance suites of package queuetest
// hold both to them.
//
// The package imports the standard library only and does no input or output. Time and randomness are always
// arguments. All of it is API: names and codes are append-only.
package queue
