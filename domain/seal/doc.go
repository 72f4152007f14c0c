// Package seal encrypts payloads, results and progress between a producer and a worker. The server, its database, its logs
// and its events hold the sealed bytes alone; no key reaches them.
//
//	codec := seal.New(keys)                              // in both programs
//	svc := codec.Service(client)                         // creates seal, reads open
//	w.Handle("mail", codec.Handler(worker.Typed(send)))  // handlers get clear payloads
//
// # What stays clear
//
// Headers, keys, groups, priorities and times; the names of queues; the texts of errors and of log lines; the payloads of
// tickers. A producer puts nothing secret there, and a handler writes no part of a payload into an error. Sizes
// stay visible too: a sealed payload is a third larger than the clear one, and about 250 bytes more.
//
// # Envelope
//
//	{"$enc":{"v":1,"kid":"2026-11","dek":"…","n":"…","ct":"…"}}
//
// v is the version of this form, kid names the key that wraps the data key dek, n is the nonce, ct the ciphertext with its
// tag. AES-256-GCM authenticates the version, the purpose (payload, result or progress), the namespace, the queue and the
// group with it. So sealed bytes that were moved to another queue, namespace or group do not open there. [AcceptFrom]
// allows another queue, as that of a dead letter.
//
// # Keys
//
// A [KeyWrapper] wraps data keys: package keyfile has one over a local file; others call a key management service. Wrapping
// is a call, perhaps over a network, so a codec uses a data key for up to an hour and a bounded number of payloads, and keeps the data
// keys that it has unwrapped for as long.
//
// To rotate, the wrapper wraps with a new key and still unwraps with the older ones, until no task is left that was sealed
// with them. Without its key a payload is lost.
//
// # Idempotency keys
//
// A repeated create must have the same payload, but sealed bytes differ each time. So the nonce of a create with a key
// follows from the data key and the payload: as long as a codec uses one data key, equal payloads have equal sealed bytes.
// After that, or in another process, [Codec.Service] compares clear payloads: it reads the task that has the key.
//
// # Other workers
//
// A worker without a codec, as pgqueue-worker with a command or a URL, passes the sealed bytes on. Its command has to open
// them.
//
// The package imports the standard library, package queue and package worker.
package seal
