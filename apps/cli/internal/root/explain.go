package root

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/pgqueue/pgqueue/apps/cli/internal/config"
	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// explainError returns err on one line with its remedy, and its exit code.
func explainError(f *factory.Factory, err error) (text string, code int) {
	text, code = program.OneLine(err), program.ExitCode(err)
	e, ok := errors.AsType[*queue.Error](err)
	if !ok {
		return text, code
	}

	// Before a command asks for the server, a deadline is that of a database, which --timeout does not set.
	if e.Kind == queue.KindDeadline && f.Connected() {
		text = fmt.Sprintf("no answer from %s within %s; a server that is busy may need a longer --timeout", serverAddress(f), f.Settings.Timeout)
		if e.Op != "" {
			text = e.Op + ": " + text
		}

		return text, program.ExitUnreachable
	}

	// The route of every command exists, so another program answers at this URL, or another path of the server.
	if e.Kind == queue.KindNotFound && e.Subject == restapi.SubjectRoute {
		return fmt.Sprintf("%s is not the URL of the server's API, which is as %s; see --url", serverAddress(f), program.DefaultServerURL), program.ExitUsage
	}

	if h := remedyFor(f, e); h != "" {
		text += "; " + h
	}

	return text, code
}

// serverAddress returns the URL of the present server, without its password.
func serverAddress(f *factory.Factory) string { return config.RedactURL(f.Settings.URL) }

// remedyFor returns the remedy, where the error has none.
func remedyFor(f *factory.Factory, e *queue.Error) string {
	// The remedies below are commands of a server.
	if !f.Connected() {
		return ""
	}

	switch e.Kind { // errors of the other kinds name their remedy, or have none
	case queue.KindUnavailable:
		if dial, ok := errors.AsType[*net.OpError](e); ok && dial.Op == "dial" {
			return "is one running at " + serverAddress(f) + "? pgqueue run starts one, --url names another"
		}

		return "try again in a while"

	case queue.KindDenied:
		if _, ok := errors.AsType[*tls.CertificateVerificationError](e); ok {
			return "--ca-file names the file of its authority"
		}

	case queue.KindNotFound:
		switch noun, _, _ := strings.Cut(e.Subject, " "); noun {
		case "queue", "ticker", "task":
			return fmt.Sprintf("pgqueue %ss lists what is there", noun)
		}

	case queue.KindAlreadyExists:
		if noun, name, ok := strings.Cut(e.Subject, " "); ok {
			return fmt.Sprintf("pgqueue update-%s %s changes it", noun, name)
		}

	case queue.KindLeaseLost:
		if e.Subject != "" {
			return "pgqueue " + e.Subject + " shows its holder"
		}

	case queue.KindIndeterminate:
		if e.Msg == "" { // a message of this kind says itself what may have happened
			return "it may have been done or not: look before repeating it"
		}
	}

	return ""
}
