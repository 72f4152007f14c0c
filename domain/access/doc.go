// Package access decides which caller may do what. It has no I/O and reads no clock: every way in asks the same pure
// function, so REST, Connect, gRPC, streams and the dashboard cannot differ.
//
// A [Principal] is a caller with a proved identity: the owner of a token, a dashboard session, a JWT, a client
// certificate, or the local user of an open server. It has grants.
//
// A [Grant] is a role in a namespace, or in some queues of it:
//
//	viewer@billing         reads everything in the namespace billing
//	worker@default/mail*   works the queues of default with a name that starts with mail
//	admin@*                manages every namespace
//
// Grants add up. No grant takes a right away, and there are no regular expressions: a name is equal, or it starts with
// the text before a final "*".
//
// # Decisions
//
// [Principal.Scope] returns where a principal has a right: in every queue of a namespace, in some queues, or nowhere. A
// grant for some queues never gives the right to act on the namespace as a whole. So an operation that names no queue is
// refused for such a principal, or its answer is reduced to these queues.
//
// The table of [queue.Operation] names the action of each operation; [Role.Actions] has the actions of each role. An
// unknown role, action or operation has no rights.
package access
