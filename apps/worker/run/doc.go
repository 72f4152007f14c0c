// Package run is the program pgqueue-worker. It combines a service (a server over REST or Connect, or a database in
// process), the handlers of package execrun or httprun, and the runtime of domain/worker. It runs them until a
// signal.
//
// Settings come from flags, the environment and a YAML file, in this order of precedence. The flag --drain-time is
// PGQUEUE_WORKER_DRAIN_TIME, or PGQUEUE_DRAIN_TIME if that is unset, and drain-time (or drain_time) in the file.
// Commas separate the values of a list in the environment. In the file, queues lists queues with their own settings:
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
// With --until-empty or --max-tasks the program ends by itself, with the exit code 0, as a job of a scheduler does.
//
// The first SIGTERM or SIGINT drains, and the second one ends the drain at once. Exit codes: 0 done, 1 failed, 2
// usage.
package run
