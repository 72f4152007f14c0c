// Package schema has the port to JSON Schema and its rules that need no library: limits of schemas, numbers that no payload
// of a queue with a schema may have, the faults of a payload, and a cache of compiled schemas.
//
//	compiled, err := compiler.Compile(ctx, source)
//	report, err := compiled.Validate(ctx, payload)
//	if !report.OK() { return report.Err("payload") }
//
// An adapter implements [Compiler]. The dialect is JSON Schema 2020-12. Formats and contents are annotations, as they are
// by default in that dialect: "format": "email" refuses nothing.
//
// # Hostile input
//
// Both a schema and a payload come from callers. So a Compiler reaches neither files nor a network, and neither Compile nor
// Validate panics. The work of Validate is bounded by the size of the payload; it refuses a payload that would need more.
//
// # Numbers
//
// JSON has numbers of any length, and exact arithmetic on 1e999999 takes long. [Scan] refuses numbers of more than
// [MaxDigits] digits, or with an exponent beyond ±[MaxExponent], in payloads and schemas alike. A queue without a schema
// takes them.
//
// # Keys that occur twice
//
// JSON allows a key twice in one object, and a payload keeps both. The last one counts for a schema.
//
// The package imports the standard library and package queue only.
package schema
