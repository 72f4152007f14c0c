// Package wire converts the nouns of the domain to messages of pgqueue.v1 and back. A value that the domain cannot
// hold returns a [queue.Error] with the name of the field. Values are never truncated or wrapped around.
package wire
