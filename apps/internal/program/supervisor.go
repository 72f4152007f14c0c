package program

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// Supervisor reports the state of the program to its supervisor, such as systemd with Type=notify. All methods of a
// nil Supervisor do nothing.
type Supervisor struct {
	conn *net.UnixConn
	log  *slog.Logger
	beat time.Duration // interval of the signs of life; 0 = none

	// sending is held for one message. Without it the signs of life would push out the deadline of the message of the
	// stop, as long as the supervisor does not read.
	sending sync.Mutex

	end    chan struct{}
	once   sync.Once
	closed sync.Once
	beats  sync.WaitGroup
}

// supervisorVariables are for this process alone. A child with them could report in its name.
var supervisorVariables = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// notifyTimeout bounds a message to the supervisor. A stop waits for at most two of them.
const notifyTimeout = time.Second

// Supervised returns the supervisor of the environment, or nil. It removes the variables from the environment.
func Supervised(log *slog.Logger) *Supervisor {
	socket := os.Getenv("NOTIFY_SOCKET")
	usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range supervisorVariables {
		// It fails only for an invalid name.
		_ = os.Unsetenv(name)
	}

	if socket == "" {
		return nil
	}

	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		log.Warn("cannot speak to the supervisor; it will not hear that this program is ready", "err", err)
		return nil
	}

	s := &Supervisor{conn: conn, log: log, end: make(chan struct{})}
	if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.beat = time.Duration(n) * time.Microsecond / 2
	}

	return s
}

// Ready reports that the program works, and starts the signs of life.
func (s *Supervisor) Ready() {
	if s == nil {
		return
	}
	s.notifySupervisor("READY=1")
	if s.beat > 0 {
		s.once.Do(func() { s.beats.Go(s.reportAlive) })
	}
}

// Stopping reports that the program stops.
func (s *Supervisor) Stopping() {
	if s != nil {
		s.notifySupervisor("STOPPING=1")
	}
}

// Close ends the signs of life.
func (s *Supervisor) Close() {
	if s == nil {
		return
	}
	s.closed.Do(func() {
		close(s.end)
		s.beats.Wait()
		// Nothing is buffered.
		_ = s.conn.Close()
	})
}

func (s *Supervisor) reportAlive() {
	t := time.NewTicker(s.beat)
	defer t.Stop()
	for {
		s.notifySupervisor("WATCHDOG=1")
		select {
		case <-t.C:
		case <-s.end:
			return
		}
	}
}

func (s *Supervisor) notifySupervisor(what string) {
	s.sending.Lock()
	defer s.sending.Unlock()
	err := s.conn.SetWriteDeadline(time.Now().Add(notifyTimeout))
	if err == nil {
		_, err = s.conn.Write([]byte(what))
	}
	if err != nil {
		s.log.DebugContext(context.Background(), "cannot speak to the supervisor", "what", what, "err", err)
	}
}
