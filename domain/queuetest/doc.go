// Package queuetest holds the conformance suites of pgqueue's ports, and what tests of anything built on them need.
//
// [TestStore] holds an implementation of queue.Store to the contract, [TestService] one of queue.Service: in process,
// over REST, over Connect alike. A sub-test's name is a sentence of the contract. [Model] drives a store with random
// operations and clock jumps against a small model built on queue.Transitions. [BenchStore] and [BenchService] measure
// the same work on every stack. [Faulty] makes a store fail on demand. [CheckGoroutines] finds what a test left running,
// [VerifyGoroutines] what a package's tests did.
//
// What may legitimately differ between implementations is declared in Features; nothing is skipped by name. No test
// depends on timing: the harness makes the store's clock jump, by hours, where real tests take milliseconds.
//
// The package imports the standard library only.
package queuetest
