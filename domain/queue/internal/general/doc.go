// Package general makes the general form of an error's message: one line in which placeholders stand for data, so that the
// errors of one cause have one form.
//
//	dial tcp 10.0.0.7:5432: connect: connection refused   dial tcp <addr>: connect: connection refused
//	KeyError: 'user_17'                                    KeyError: '<text>'
//
// # Rules
//
// These become placeholders: URLs, mail addresses, UUIDs, times, addresses and hosts with a port, paths, hexadecimal
// numbers and hashes, ids that mix letters and digits, durations, numbers, and texts in quotes. A list of equal
// placeholders becomes one of them.
//
// These stay: words; numbers of at most 4 digits behind a word such as status, code and errno; the SQLSTATE; names in quotes
// behind a word such as column and module, with placeholders for their digits; names of JSON members.
//
// These are left out: frames of a stack of Go, Java, Node, .NET and Python; of a chain of errors of Python all but the last one.
//
// The form of a general form is the same text. The values of digits in data have no part in it. The result has at most
// [MaxBytes], and the time is bounded, because at most [MaxRead] bytes of a message are read.
//
// Every rule is a part of queue.FingerprintVersion: a change of one raises it.
package general
