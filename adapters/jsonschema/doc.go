// Package jsonschema compiles JSON Schemas of the dialect 2020-12 and validates payloads, for the port of domain/schema. The
// rules of JSON Schema are those of github.com/santhosh-tekuri/jsonschema; this package bounds what it does.
//
// # References
//
// A schema is one document. References within it, to an $id within it, and to the meta-schemas of JSON Schema are resolved.
// Every other one is refused with its name: the package opens no file and no connection.
//
// # Work
//
// The cost of a validation is counted in steps of about 100 ns. A payload may take 50,000 of them, and more for each byte,
// value and object, which is about ten times the cost of its decoding. Each visit of a value by a part of the schema costs
// some, before it begins: more for lists, for long texts and numbers, and for uniqueItems. So exponential schemas,
// payloads made for a schema, and patterns that cost much are cut in the middle, by a panic of this package that it
// recovers, and the payload is refused. The count depends on payload and schema alone, never on the speed of the machine.
// [MaxTime] is the second bound, by the clock.
//
// A validation runs in the goroutine of its caller, and leaves none behind.
//
// A schema is walked once when it is compiled: each part of it gets the step as its first check. A compiled schema counts
// for one validation at a time, so callers at the same time use copies, at most one for each CPU.
//
// # Compile
//
// A compile cannot be cut. It gets [MaxCompileTime] in a goroutine of its own; at most [MaxCompiles] of them exist, also those
// that go on behind the end of their callers. These limits keep the time short: [MaxParts] objects and booleans, [MaxChain] parts that
// look at one value by reference, [MaxPatternBytes] of a pattern.
//
// # Faults
//
// A payload is first checked without collecting faults. Only when it has some, a second validation lists them, with a tenth of the
// memory that a list of all faults could take. A payload with too many of them gets a report without a list.
package jsonschema
