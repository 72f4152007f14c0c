package httprun

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"

	"github.com/pgqueue/pgqueue/domain/worker"
)

// fault is the origin of a missing answer.
type fault int

const (
	// faultTask may be the task's: a failed attempt.
	faultTask fault = iota
	// faultTarget would fail other tasks too: a failed attempt, and after several in a row the worker pauses.
	faultTarget
	// faultOwn is the worker's: it sent no request, so the task is handed back.
	faultOwn
)

// errorsTable is the only table of errors without an answer. The first row that matches applies.
var errorsTable = []struct {
	when  string
	fault fault
	is    func(error) bool
}{
	{"the address is not public and not allowed", faultOwn, func(err error) bool {
		return errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedNetwork)
	}},
	{"the target's name does not resolve", faultOwn, isErrorOf[*net.DNSError]},
	{"this machine has no file descriptor, memory, port or route left", faultOwn, hasErrno(
		syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EADDRNOTAVAIL, syscall.ENETDOWN, syscall.ENETUNREACH,
		syscall.EAGAIN, syscall.EACCES, syscall.EPERM, syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT,
	)},
	{"this machine does not know the authority of the target's certificate, or has no list of authorities", faultOwn, func(err error) bool {
		return isErrorOf[x509.UnknownAuthorityError](err) || isErrorOf[x509.SystemRootsError](err)
	}},
	{"the target's certificate is for another name or time, or it does not speak TLS", faultTarget, func(err error) bool {
		return isErrorOf[x509.HostnameError](err) || isErrorOf[x509.CertificateInvalidError](err) || isErrorOf[*tls.CertificateVerificationError](err) ||
			isErrorOf[tls.RecordHeaderError](err) || isErrorOf[tls.AlertError](err)
	}},
	{"the target cannot be reached, or refuses the connection", faultTarget, func(err error) bool {
		op, ok := errors.AsType[*net.OpError](err)
		return ok && op.Op == "dial" || hasErrno(syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.EHOSTDOWN)(err)
	}},
	{"no answer within `--request-timeout`", faultTask, func(err error) bool {
		return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	}},
	{"the connection breaks, or the answer is not HTTP", faultTask, func(error) bool { return true }},
}

func isErrorOf[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func hasErrno(codes ...syscall.Errno) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(codes, func(code syscall.Errno) bool { return errors.Is(err, code) })
	}
}

// faultOf returns the fault of err.
func faultOf(err error) fault {
	for _, e := range errorsTable {
		if e.is(err) {
			return e.fault
		}
	}
	return faultTask
}

// chargeFault wraps f, the error of a request that failed with err, according to the fault of err.
func chargeFault(f *Failure, err error) error {
	switch faultOf(err) {
	case faultOwn:
		return worker.NotStarted(f)
	case faultTarget:
		return worker.Systemic(f)
	case faultTask:
	}
	return f
}
