// Package cells is a queue.Store over several Stores. Each of them is a cell: a database schema with everything of some
// namespaces. A namespace lives in one cell, and every guarantee of a Store holds within it.
//
// # Routing
//
// A call with a namespace goes to the cell of the namespace. The directory has the places of namespaces; a process reads it at
// most once a second. The first queue or ticker of a namespace gives it a place: the open cell of the highest rendezvous
// weight. A namespace without a place has nothing, so a look at it may ask any cell.
//
// Calls without a namespace ask all cells side by side: background work, wake-ups, statistics, diagnosis. Cell 0 has the directory,
// tokens, sessions and the audit; [Store.Unwrap] returns it.
//
// # A cell that is down
//
// Its namespaces get KindUnavailable, with the name of the cell. The others work on: statistics leave the cell out, a step of
// background work reports it as a fault, and after a failed step the next ones of the cell run apart, so that nothing waits for them.
//
// A server that accepts connections and does not answer is down too. Each cell has three quarters of the time of a call to all
// cells, so that the others answer in time. No call waits for a cell that was silent when it was opened last. While the directory
// is silent, its last state stays.
//
// # Limits
//
// At most 512 cells. One namespace is as large as one cell. No call spans two namespaces, so no transaction spans two cells.
package cells
