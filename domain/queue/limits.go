package queue

import "time"

// The limits of the contract, section 2. Each is enforced at every entrance and tested at the limit and one past it.
const (
	// MaxNameBytes bounds queue, ticker and namespace names.
	MaxNameBytes = 63
	// MaxWorkerBytes bounds the name of a worker, in bytes of UTF-8.
	MaxWorkerBytes = 255
	// MaxKeyBytes bounds an idempotency key, in bytes of UTF-8.
	MaxKeyBytes = 255
	// DefaultMaxPayloadBytes bounds a payload or a result unless configured otherwise: 1 MiB.
	DefaultMaxPayloadBytes = 1 << 20
	// MaxJSONDepth bounds the nesting of arrays and objects in a payload or a result.
	MaxJSONDepth = 128
	// MaxBatch bounds the tasks of one create, retain, release or heartbeat.
	MaxBatch = 10_000
	// MaxPage bounds the rows of one page of a list.
	MaxPage = 1_000
	// MaxEventCursor bounds a cursor of the feed, in bytes: it is a header of requests. A Store keeps what does not fit.
	MaxEventCursor = 64
	// DefaultPage is the number of rows of a page when none is asked for.
	DefaultPage = 100
	// MaxPageBytes bounds a page of a list in bytes, as Task.Bytes counts them: a page ends early when the next element
	// would exceed it. The first element always comes. With the framing of every transport a page stays below 4 MiB,
	// which gRPC clients take unless they are configured otherwise.
	MaxPageBytes = 3 << 20
	// MaxRetries bounds the retries of a queue.
	MaxRetries = 1_000
	// MaxDuration bounds every duration: ten years of 365 days.
	MaxDuration = 10 * 365 * 24 * time.Hour
	// MaxHeaders bounds the entries of a task's headers.
	MaxHeaders = 64
	// MaxHeadersBytes bounds the names and values of a task's headers together.
	MaxHeadersBytes = 16 << 10
	// MaxConcurrency bounds the concurrency of a queue.
	MaxConcurrency = 1_000_000
	// MaxQueuesPerRetain bounds the queues that one retain names.
	MaxQueuesPerRetain = 1_000
	// MaxErrors bounds the failed attempts that are kept with a task; the newest stay.
	MaxErrors = 50
	// MaxErrorBytes bounds one kept error of an attempt; a longer one is truncated.
	MaxErrorBytes = 16 << 10
	// MaxProgressBytes bounds the progress that a holder reports for a task.
	MaxProgressBytes = 16 << 10
	// MaxMisfireLimit bounds the ticks made up after a downtime.
	MaxMisfireLimit = 1_000
	// MaxPreview bounds the fires of a ticker's preview.
	MaxPreview = 1_000
	// DefaultRetainBytes bounds the tasks of one retain, encoded, when it does not say how many bytes it takes. Base64 makes
	// 4,000,000 of them, and with some room for the rest a client with the usual message limit of 4 MiB takes them.
	DefaultRetainBytes = 3_000_000
	// MaxRetainBytes bounds what a retain may ask for instead: 8 MiB. A Store call of several retains that has read so
	// much begins no further one of them.
	MaxRetainBytes = 8 << 20
	// MaxListBytes bounds a list that has no pages (workers, tokens, sessions) in bytes, as the Bytes of its rows count them: 16 MiB.
	// A Store counts them while it reads.
	MaxListBytes = 16 << 20
	// MaxWorkerQueues bounds the queues that a list of workers names for each of them: as many as a retain may name.
	MaxWorkerQueues = MaxQueuesPerRetain
	// MaxFilterTextBytes bounds the text that a filter searches in payloads.
	MaxFilterTextBytes = 255
	// MaxTextExamined bounds the tasks that one call looks at to find a text in payloads; the next page goes on behind them.
	MaxTextExamined = 100_000
	// MaxTextTime bounds the time of one call that looks for a text; the next page goes on where it ended.
	MaxTextTime = 2 * time.Second
	// MaxSelection bounds the limit of a step of a bulk operation.
	MaxSelection = 10_000
	// MaxWait bounds how long a retain or an await may block.
	MaxWait = 10 * time.Minute
	// BulkStep is how long a call of a long operation (a bulk move, a clean) works before it answers with what it did and
	// where to go on. It is well below every limit of time around a call.
	BulkStep = 5 * time.Second
)

// Defaults of a queue's policy (contract section 3) and of a ticker (section 5).
const (
	DefaultNamespace     = "default"
	SystemNamespace      = "pgqueue"
	DefaultRetries       = 3
	DefaultRetryDelay    = 2 * time.Minute
	DefaultRetryMaxDelay = 24 * time.Hour
	DefaultLease         = 5 * time.Minute
	DefaultRetention     = 7 * 24 * time.Hour
	DefaultBackoff       = BackoffExponential
	DefaultMisfireLimit  = 100
)

// Shortest durations that make sense: below them a lease would run out before the holder could extend it.
const (
	// MinLease is the shortest lease.
	MinLease = 100 * time.Millisecond
	// MinPeriod is the shortest period of a ticker.
	MinPeriod = 100 * time.Millisecond
)

// LeaseExpired is the error of an attempt with a lapsed lease.
const LeaseExpired = "lease expired"
