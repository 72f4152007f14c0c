package httprun

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// meaning is the meaning of a status.
type meaning int

const (
	// meansFailure is a failed attempt, tried again after Retry-After or the queue's backoff while retries last.
	meansFailure meaning = iota
	// meansSystemic is the same, but the other tasks of the queue would fail too. After several in a row the worker
	// pauses.
	meansSystemic
	meansDone
	meansPermanent
)

// DefaultPermanent are the statuses that fail a task permanently by default. They concern this one task, and no
// temporary state, such as a deploy, a lock or a rotated secret, causes them.
var DefaultPermanent = []string{"410", "422"}

// statuses is the only table of meanings. A status outside it has the meaning of its class.
var statuses = map[int]meaning{
	http.StatusSwitchingProtocols: meansSystemic, // a server of another protocol

	// The fault lies in the address or the state of the target, not in the task.
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

	// The fault may lie in the task or in a busy resource: only retries can distinguish them.
	http.StatusBadRequest:          meansFailure,
	http.StatusRequestTimeout:      meansFailure,
	http.StatusConflict:            meansFailure,
	http.StatusLocked:              meansFailure,
	http.StatusTooEarly:            meansFailure,
	http.StatusInternalServerError: meansFailure,
}

// classes holds the meanings of the statuses outside the table, by their first digit.
var classes = map[int]meaning{
	1: meansFailure,
	2: meansDone,
	3: meansSystemic, // redirects are not followed: the address is wrong
	4: meansFailure,
	5: meansFailure,
}

// meaningOf returns the meaning of status. The statuses of permanent fail a task permanently. A status without a
// class is a failure.
func meaningOf(status int, permanent map[int]bool) meaning {
	if permanent[status] {
		return meansPermanent
	}
	if m, ok := statuses[status]; ok {
		return m
	}
	return classes[status/100]
}

// parsePermanent reads statuses such as 404 and classes such as 4xx. "none" is the empty list.
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
			return nil, queue.Invalid("permanent-status", fmt.Sprintf("must be statuses from 300 to 599, 3xx, 4xx, 5xx, or none alone; got %.64q", s))
		}
	}

	return all, nil
}

// Table returns the table of statuses in Markdown, for the documentation.
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

	// The default list is valid.
	permanent, _ := parsePermanent(nil)
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
