package program

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

const profilesFlag = "pprof-addr"

// ProfilesFlag defines the address of profiles.
func ProfilesFlag(fs *pflag.FlagSet, addr *string) {
	fs.StringVar(addr, profilesFlag, *addr, "loopback `address` of profiles for go tool pprof, as localhost:6060 (default: none)")
	FromEnvironment(fs, profilesFlag)
}

// ServeProfiles serves the profiles of this process below /debug/pprof/ at addr until the returned function is called; ""
// serves none. The address must be one of loopback, because a profile shows parts of the memory and no credential protects it.
// The error names a wrong address.
func ServeProfiles(ctx context.Context, addr string, log *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}

	checks, err := PortChecks(addr, httpaccess.Config{Refuse: func(w http.ResponseWriter, _ *http.Request, status int, reason *queue.Error) {
		http.Error(w, reason.Error(), status)
	}})
	if err != nil {
		return nil, err
	}

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, queue.Invalid(profilesFlag, fmt.Sprintf("must be a free address of this machine, got %.64q (%v); choose another", addr, err))
	}
	if at, err := netip.ParseAddrPort(l.Addr().String()); err != nil || !at.Addr().Unmap().IsLoopback() {
		_ = l.Close()
		return nil, queue.Invalid(profilesFlag, fmt.Sprintf("must be a loopback address, got %.64q; write localhost:6060, and reach it through a tunnel", addr))
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound) // a command line may have a secret
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)

	// A profile of a minute fits into the time for an answer.
	s := NewPortServer(checks.Wrap(mux), 2*time.Minute, log, slog.LevelDebug)
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.ErrorContext(ctx, "profiles are no longer served", "err", err)
		}
	})

	log.InfoContext(ctx, "serving profiles", "url", "http://"+l.Addr().String()+"/debug/pprof/")
	return func() {
		// A profile under way has no value after the stop.
		_ = s.Close()
		served.Wait()
	}, nil
}
