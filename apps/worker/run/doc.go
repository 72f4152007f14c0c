// Package run is the program pgqueue-worker: it puts together a service (a server over REST or Connect, or a database in
// process), the handlers of package execrun or httprun, and the runtime of domain/worker, and runs them until a signal.
//
// Settings come from flags, the environment and a YAML file, in this order of precedence. The flag --drain-time is
// PGQUEUE_WORKER_DRAIN_TIME, or PGQUEUE_DRAIN_TIME when that is not set, and drain-time (or drain_time) in the file; a
// setting that takes several is separated by commas in the environment. In the file, queues lists queues with settings
// of their own:
//
//	url: http://localhost:8080/api
//	concurrency: 20
//	queues:
//	  - queue: mail
//	    exec: ./send.sh
//	    concurrency: 4        # slots of its own, beside the 20
//	  - queue: hooks
//	    http: https://example.com/hook
//	    secret: [whsec_…]
//
// The first SIGTERM or SIGINT drains, the second cuts that short. Exit codes: 0 done, 1 failed, 2 usage.
package run
