package connectserver

import (
	"log/slog"
	"net/http"
	"sync"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1/pgqueuev1connect"
	"github.com/pgqueue/pgqueue/transport/connect/internal/wire"
)

// minCompressBytes is the smallest message worth compressing. Below it compression costs more than it saves.
const minCompressBytes = 1 << 10

// Server is an http.Handler for the whole API. Create it with New. It is safe for concurrent use.
type Server struct {
	config
	svc      queue.Service
	handler  http.Handler
	paths    []string
	draining chan struct{}
	drain    func()
}

// New returns a server of svc. A request without a namespace goes to the namespace of svc.
func New(svc queue.Service, opts ...Option) (*Server, error) {
	s := &Server{svc: svc, draining: make(chan struct{}), config: config{
		logger: slog.Default(), maxMessage: DefaultMaxMessageBytes, aliveEvery: DefaultAliveEvery,
		sendTimeout: DefaultSendTimeout, callTimeout: DefaultCallTimeout, large: queue.NewBudget(queue.DefaultLargeBytes),
		bodies: queue.NewBodyBudget(queue.DefaultBodyBytes),
	}}
	s.drain = sync.OnceFunc(func() { close(s.draining) })
	for _, o := range opts {
		if err := o(&s.config); err != nil {
			return nil, err
		}
	}

	server := connect.NewServer(s.translateErrors, s.boundDuration, s.requireAdmin)
	pgqueuev1connect.RegisterNamespaceServiceHandler(server, namespaces{s})
	pgqueuev1connect.RegisterTaskServiceHandler(server, tasks{s})
	pgqueuev1connect.RegisterWorkServiceHandler(server, work{s})
	pgqueuev1connect.RegisterQueueServiceHandler(server, queues{s})
	pgqueuev1connect.RegisterTickerServiceHandler(server, tickers{s})
	pgqueuev1connect.RegisterEventServiceHandler(server, events{s})
	pgqueuev1connect.RegisterAccessServiceHandler(server, tokens{s})

	// Answers may be twice as large as requests, see WithMaxMessageBytes.
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server, connecthttp.WithCodecs(connectproto.NewBinaryCodec(), newStrictJSON()),
		connecthttp.WithReadMaxBytes(s.maxMessage), connecthttp.WithSendMaxBytes(2*s.maxMessage),
		connecthttp.WithCompressMinBytes(minCompressBytes))
	names := serviceNames()
	for _, name := range names {
		s.paths = append(s.paths, "/"+name+"/")
	}

	// Health and reflection are mounted beside the services of pgqueue.
	reflector := grpcreflect.NewStaticReflector(append(names, grpchealth.HealthV1ServiceName)...)
	handle := func(path string, h http.Handler) {
		mux.Handle(path, h)
		s.paths = append(s.paths, path)
	}
	path, watched := grpchealth.NewHandler(&health{s, grpchealth.NewStaticChecker(names...)})
	handle(path, s.untilDrained(watched))
	handle(grpcreflect.NewHandlerV1(reflector))
	handle(grpcreflect.NewHandlerV1Alpha(reflector))
	s.handler = s.serveWithLifeline(mux)
	return s, nil
}

func serviceNames() []string {
	return []string{
		pgqueuev1connect.NamespaceServiceName, pgqueuev1connect.TaskServiceName, pgqueuev1connect.WorkServiceName,
		pgqueuev1connect.QueueServiceName, pgqueuev1connect.TickerServiceName, pgqueuev1connect.EventServiceName,
		pgqueuev1connect.AccessServiceName,
	}
}

// Paths returns the patterns that the server handles, such as "/pgqueue.v1.TaskService/".
func (s *Server) Paths() []string { return append([]string(nil), s.paths...) }

// Mount registers the server on mux at its Paths.
func (s *Server) Mount(mux interface{ Handle(string, http.Handler) }) {
	for _, p := range s.paths {
		mux.Handle(p, s)
	}
}

// ServeHTTP answers a call of any protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Drain ends all streams with KindUnavailable after their accepted work, and health reports NOT_SERVING from then on.
// Unary calls continue. Call Drain before http.Server.Shutdown, which waits for streams. Drain does not wait and may
// be called many times.
func (s *Server) Drain() { s.drain() }

// serviceInNamespace returns the service of the namespace of a request.
func (s *Server) serviceInNamespace(namespace string) (queue.Service, error) {
	if namespace == "" {
		return s.svc, nil
	}
	return s.svc.In(namespace)
}

// serviceFor returns the service of the namespace of req. It fails if r found a fault in req.
func (s *Server) serviceFor(req interface{ GetNamespace() string }, r *wire.Reader) (queue.Service, error) {
	svc, err := s.serviceInNamespace(req.GetNamespace())
	if err == nil {
		err = r.Err()
	}
	return svc, err
}

var errDraining = &queue.Error{Kind: queue.KindUnavailable, Msg: "the server is shutting down; connect again"}
