package httprun

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// meaning is what a status stands for.
type meaning int

const (
	// meansFailure: a failed attempt, tried again after Retry-After or the queue's backoff while retries last.
	meansFailure meaning = iota
	// meansSystemic: the same, and the queue's other tasks would fail alike; after some in a row the worker rests.
	meansSystemic
	meansDone
	meansPermanent
)

// DefaultPermanent are the statuses that fail a task for good unless told otherwise: they speak of this very task, and
// nothing that passes, as a deploy, a lock or a rotated secret, gives them.
var DefaultPermanent = []string{"410", "422"}

// statuses is the one table of what a status means. What is not in it means what its class says.
var statuses = map[int]meaning{
	http.StatusSwitchingProtocols: meansSystemic, // a server of something else

	// The target is elsewhere, or is not to be reached so: a matter of its address and of its state, not of the task.
	http.StatusUnauthorized:                  meansSystemic,
	http.StatusPaymentRequired:               meansSystemic,
	http.StatusForbidden:                     meansSystemic,
	http.StatusNotFound:                      meansSystemic,
	http.StatusMethodNotAllowed:              meansSystemic,
	http.StatusProxyAuthRequired:             meansSystemic,
	http.StatusMisdirectedRequest:            meansSystemic,
	http.StatusUpgradeRequired:               meansSystemic,
	http.StatusTooManyRequests:               meansSystemic,
	http.StatusUnavailableForLegalReasons:    meansSystemic,
	http.StatusBadGateway:                    meansSystemic,
	http.StatusServiceUnavailable:            meansSystemic,
	http.StatusGatewayTimeout:                meansSystemic,
	http.StatusHTTPVersionNotSupported:       meansSystemic,
	http.StatusInsufficientStorage:           meansSystemic,
	http.StatusNetworkAuthenticationRequired: meansSystemic,

	// The task may be at fault, or what it is about is busy: only the queue's retries tell.
	http.StatusBadRequest:          meansFailure,
	http.StatusRequestTimeout:      meansFailure,
	http.StatusConflict:            meansFailure,
	http.StatusLocked:              meansFailure,
	http.StatusTooEarly:            meansFailure,
	http.StatusInternalServerError: meansFailure,
}

// classes is what the statuses mean that statuses does not name, by their first digit.
var classes = map[int]meaning{
	1: meansFailure,
	2: meansDone,
	3: meansSystemic, // redirects are not followed: a matter of the address
	4: meansFailure,
	5: meansFailure,
}

// meaningOf is what status means where those of permanent fail a task for good. A status of no class is a failure.
func meaningOf(status int, permanent map[int]bool) meaning {
	if permanent[status] {
		return meansPermanent
	}
	if m, ok := statuses[status]; ok {
		return m
	}
	return classes[status/100]
}

// parsePermanent reads statuses such as 404 and classes such as 4xx; "none" stands for none.
func parsePermanent(list []string) (map[int]bool, error) {
	if list == nil {
		list = DefaultPermanent
	}
	all := map[int]bool{}
	for _, s := range list {
		s = strings.TrimSpace(s)
		switch n, err := strconv.Atoi(s); {
		case s == "none" && len(list) == 1:
		case err == nil && n >= 300 && n <= 599:
			all[n] = true
		case s == "3xx" || s == "4xx" || s == "5xx":
			for n := range 100 {
				all[int(s[0]-'0')*100+n] = true
			}
		default:
			return nil, queue.Invalid("permanent-status", fmt.Sprintf("must be statuses from 300 to 599, 3xx, 4xx, 5xx, or none alone; this is %q", s))
		}
	}
	return all, nil
}

// Table is the table of statuses in Markdown, for the documentation.
func Table() string {
	rows := []struct {
		mean meaning
		says string
	}{
		{meansDone, "is done; the body is the result: JSON stays as it is, other text becomes `{\"text\": …}`"},
		{meansPermanent, "failed, even with retries left; `--permanent-status` sets other statuses, or `none`"},
		{meansSystemic, "is tried again after `Retry-After`, else after the queue's backoff, while retries last; after five in a row the worker pauses the queue, for a second at first, at most for a minute, and then sends one task as a probe"},
		{meansFailure, "is tried again after `Retry-After`, else after the queue's backoff, while retries last"},
	}
	permanent, _ := parsePermanent(nil) // our own list is fine
	named := map[meaning][]string{}
	for status := range 600 {
		_, known := statuses[status]
		if m := meaningOf(status, permanent); known && m != classes[status/100] || m == meansPermanent {
			named[m] = append(named[m], strconv.Itoa(status))
		}
	}
	for class, m := range classes {
		name := strconv.Itoa(class) + "xx"
		if class > 3 {
			name = "other " + name
		}
		named[m] = append(named[m], name)
	}
	var b strings.Builder
	b.WriteString("| answer | the task |\n|---|---|\n")
	for _, row := range rows {
		slices.Sort(named[row.mean])
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(named[row.mean], ", "), row.says)
	}
	for _, e := range errorsTable {
		fmt.Fprintf(&b, "| none: %s | %s |\n", e.when, map[fault]string{
			faultOwn:    "is handed back, costs no attempt; the worker pauses the queue",
			faultTarget: "as for 404",
			faultTask:   "as for 500",
		}[e.fault])
	}
	return b.String()
}
