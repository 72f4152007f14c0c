// Package memory is the queue's Store in Go maps: the executable specification of what every other store does,
// and the store of unit tests and examples. It keeps nothing when the process ends.
package memory
