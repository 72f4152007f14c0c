// Package wire turns the domain's nouns into messages of pgqueue.v1 and back. What a message holds that the domain
// cannot is refused with a [queue.Error] that names the field, never wrapped around or cut.
package wire
