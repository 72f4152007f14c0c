// Package queuetest holds the conformance suites of pgqueue's ports, and helpers for tests of code built on them.
//
// [TestStore] checks an implementation of queue.Store against the contract, [TestService] one of queue.Service: in
// process, over REST and over Connect. The name of a sub-test is a sentence of the contract. [Model] drives a store
// with random operations and clock jumps against a small model built on queue.Transitions. [BenchStore] and
// [BenchService] measure the same work on every stack. [Faulty] makes a store fail on demand. [CheckGoroutines] finds
// the goroutines that a test left running, [VerifyGoroutines] those of all tests of a package.
//
// Features declares the permitted differences between implementations; no sub-test is skipped by name. No test depends
// on timing: the harness moves the store's clock by hours, while real tests take milliseconds.
//
// The package imports the standard library only.
package queuetest
