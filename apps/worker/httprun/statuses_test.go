package httprun

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"code.dny.dev/ssrf"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/worker"
)

// TestStatuses holds what every status that HTTP can carry stands for.
func TestStatuses(t *testing.T) {
	systemic := []int{101, 401, 402, 403, 404, 405, 407, 421, 426, 429, 451, 502, 503, 504, 505, 507, 511}
	want := func(status int) meaning {
		switch {
		case status == 410 || status == 422:
			return meansPermanent
		case status/100 == 2:
			return meansDone
		case status/100 == 3 || slices.Contains(systemic, status):
			return meansSystemic
		}
		return meansFailure
	}
	permanent, err := parsePermanent(nil)
	if err != nil {
		t.Fatal(err)
	}
	for status := range 1000 {
		if got := meaningOf(status, permanent); got != want(status) {
			t.Errorf("%d %s means %d, want %d", status, http.StatusText(status), got, want(status))
		}
	}
	for status := range statuses {
		if http.StatusText(status) == "" {
			t.Errorf("%d is not registered", status)
		}
	}

	t.Run("over the wire: no status but 410 and 422 ends a task for good in one go, and Retry-After holds for all others", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var status int
			_, _ = fmt.Sscan(r.Header.Get("Pgqueue-Task-Id"), &status)
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(status)
		}))
		defer s.Close()
		p, err := New(Config{URL: s.URL, AllowPrivate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for status := 200; status < 600; status++ {
			rel := worker.Work(t.Context(), p, &queue.Task{ID: int64(status), Payload: queue.EmptyJSON})
			outcome, delay := queue.OutcomeFailure, 77*time.Second
			switch want(status) {
			case meansDone:
				outcome, delay = queue.OutcomeSuccess, 0
			case meansPermanent:
				outcome, delay = queue.OutcomePermanent, 0
			case meansFailure, meansSystemic:
			}
			if rel.Outcome != outcome || rel.Delay != delay {
				t.Errorf("%d: %s with a delay of %v", status, rel.Outcome, rel.Delay)
			}
		}
	})
	t.Run("a list of statuses replaces the default ones that are for good", func(t *testing.T) {
		for list, c := range map[string]struct{ is, not []int }{
			"400,404":  {[]int{400, 404}, []int{410, 422, 500}},
			"4xx":      {[]int{400, 499}, []int{399, 500}},
			"none":     {nil, []int{410, 422}},
			"422,3xx":  {[]int{301, 422}, []int{410}},
			"":         {nil, nil},
			"200":      {nil, nil},
			"none,4xx": {nil, nil},
			"600":      {nil, nil},
			"2xx":      {nil, nil},
		} {
			got, err := parsePermanent(strings.Split(list, ","))
			if c.is == nil && c.not == nil {
				if !errors.Is(err, queue.ErrInvalid) {
					t.Errorf("%q is taken", list)
				}
				continue
			}
			for _, status := range c.is {
				if meaningOf(status, got) != meansPermanent {
					t.Errorf("%q: %d is not for good", list, status)
				}
			}
			for _, status := range c.not {
				if meaningOf(status, got) == meansPermanent {
					t.Errorf("%q: %d is for good", list, status)
				}
			}
		}
	})
	t.Run("Retry-After", func(t *testing.T) {
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		for s, want := range map[string]time.Duration{
			"": 0, "soon": 0, "0": 0, "-5": 0, "1.5": 0, "7": 7 * time.Second, "86401": 24 * time.Hour,
			" 7 ":                 7 * time.Second, //nolint:gocritic // the blanks are what it is about
			"9223372036854775807": 24 * time.Hour, "99999999999999999999": 0,
			now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
			now.AddDate(10, 0, 0).Format(http.TimeFormat): 24 * time.Hour,
		} {
			if d, ok := retryAfter(s, now); ok != (want > 0) || ok && d != want {
				t.Errorf("%q: %v %v, want %v", s, d, ok, want)
			}
		}
	})
}

// TestFaults holds which side is at fault for a request without an answer.
func TestFaults(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	call := os.NewSyscallError
	for name, c := range map[string]struct {
		err  error
		want fault
	}{
		"a private address":               {dial(fmt.Errorf("x: %w", ssrf.ErrProhibitedIP)), faultOwn},
		"a prohibited network":            {dial(ssrf.ErrProhibitedNetwork), faultOwn},
		"a name that is not there":        {dial(&net.DNSError{Err: "no such host", IsNotFound: true}), faultOwn},
		"a resolver that does not answer": {dial(&net.DNSError{Err: "i/o timeout", IsTimeout: true}), faultOwn},
		"too many open files":             {dial(call("socket", syscall.EMFILE)), faultOwn},
		"too many open files everywhere":  {dial(call("socket", syscall.ENFILE)), faultOwn},
		"no memory":                       {dial(call("socket", syscall.ENOMEM)), faultOwn},
		"no buffers":                      {dial(call("connect", syscall.ENOBUFS)), faultOwn},
		"no port left":                    {dial(call("connect", syscall.EADDRNOTAVAIL)), faultOwn},
		"no route":                        {dial(call("connect", syscall.ENETUNREACH)), faultOwn},
		"no network":                      {dial(call("connect", syscall.ENETDOWN)), faultOwn},
		"a firewall of this machine":      {dial(call("connect", syscall.EPERM)), faultOwn},
		"an unknown authority":            {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, faultOwn},
		"no roots":                        {x509.SystemRootsError{}, faultOwn},
		"a certificate of another name":   {&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}}}, faultTarget},
		"an expired certificate":          {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{}}, faultTarget},
		"no TLS there":                    {tls.RecordHeaderError{}, faultTarget},
		"a TLS alert":                     {tls.AlertError(40), faultTarget},
		"refused":                         {dial(call("connect", syscall.ECONNREFUSED)), faultTarget},
		"no such host on the wire":        {dial(call("connect", syscall.EHOSTUNREACH)), faultTarget},
		"no connection in time":           {dial(os.ErrDeadlineExceeded), faultTarget},
		"no answer in time":               {context.DeadlineExceeded, faultTask},
		"reset":                           {&net.OpError{Op: "read", Err: call("read", syscall.ECONNRESET)}, faultTask},
		"broken pipe":                     {&net.OpError{Op: "write", Err: call("write", syscall.EPIPE)}, faultTask},
		"the end":                         {io.ErrUnexpectedEOF, faultTask},
		"anything else":                   {errors.New("malformed HTTP response"), faultTask},
	} {
		if got := faultOf(&url.Error{Op: "Post", URL: "x", Err: c.err}); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	for name, target := range map[string]struct {
		cfg  Config
		want queue.Outcome
	}{
		"a name that does not resolve":           {Config{URL: "http://nowhere.invalid/"}, queue.OutcomeHandBack},
		"a target that refuses":                  {Config{URL: "http://127.0.0.1:1/", AllowPrivate: true}, queue.OutcomeFailure},
		"an address of no meaning to the dialer": {Config{URL: "http://[fe80::1%25nolink]/", AllowPrivate: true}, queue.OutcomeFailure},
	} {
		p, err := New(target.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if rel := worker.Work(t.Context(), p, &queue.Task{ID: 1, Payload: queue.EmptyJSON}); rel.Outcome != target.want {
			t.Errorf("%s: %s %s", name, rel.Outcome, rel.Result)
		}
		p.Close()
	}
	t.Run("a certificate that this machine does not trust is its own trouble", func(t *testing.T) {
		s := httptest.NewTLSServer(http.NotFoundHandler())
		defer s.Close()
		s.Config.ErrorLog = nil
		p, err := New(Config{URL: s.URL, AllowPrivate: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if rel := worker.Work(t.Context(), p, &queue.Task{ID: 1, Payload: queue.EmptyJSON}); rel.Outcome != queue.OutcomeHandBack {
			t.Errorf("%s %s", rel.Outcome, rel.Result)
		}
	})
}

// TestSettings: a setting that a request could not carry, or not as given, is refused before the first task.
func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		says string
	}{
		"no URL":                        {Config{URL: ""}, "http: must be"},
		"a URL without a host":          {Config{URL: "http://:80/x"}, "with a host"},
		"another scheme":                {Config{URL: "ftp://example.org/"}, "http: must be"},
		"a template":                    {Config{URL: "http://{host}/"}, "http"},
		"a fragment":                    {Config{URL: "http://example.org/#x"}, "#fragment"},
		"a port out of range":           {Config{URL: "http://example.org:99999/"}, "port"},
		"a host that is none":           {Config{URL: "http://exa mple.org/"}, "http"},
		"time-out below 0":              {Config{Timeout: -time.Second}, "request-timeout: must be"},
		"answer below 0":                {Config{MaxResponse: -1}, "max-output: must be"},
		"a status that is none":         {Config{Permanent: []string{"forty"}}, "permanent-status: must be"},
		"Content-Length":                {Config{Header: http.Header{"Content-Length": {"5"}}}, "got Content-Length"},
		"Transfer-Encoding":             {Config{Header: http.Header{"transfer-encoding": {"chunked"}}}, "got Transfer-Encoding"},
		"Connection":                    {Config{Header: http.Header{"Connection": {"close"}}}, "got Connection"},
		"Keep-Alive":                    {Config{Header: http.Header{"Keep-Alive": {"5"}}}, "does not set itself, got "},
		"Upgrade":                       {Config{Header: http.Header{"Upgrade": {"h2c"}}}, "does not set itself, got "},
		"Te":                            {Config{Header: http.Header{"TE": {"trailers"}}}, "does not set itself, got "},
		"Trailer":                       {Config{Header: http.Header{"Trailer": {"x"}}}, "does not set itself, got "},
		"a header of the task":          {Config{Header: http.Header{"Pgqueue-Task-Id": {"99"}}}, "does not set itself, got Pgqueue-Task-Id"},
		"any header of pgqueue":         {Config{Header: http.Header{"pgqueue-mine": {"99"}}}, "does not set itself, got "},
		"a signature":                   {Config{Header: http.Header{"Webhook-Signature": {"v1,x"}}}, "does not set itself, got "},
		"a trace":                       {Config{Header: http.Header{"Traceparent": {"x"}}}, "does not set itself, got "},
		"a name that is none":           {Config{Header: http.Header{"X Y": {"1"}}}, "header: must be as HTTP can carry it"},
		"an empty name":                 {Config{Header: http.Header{"": {"1"}}}, "header: must be as HTTP can carry it"},
		"a name with a letter too many": {Config{Header: http.Header{"Xé": {"1"}}}, "header: must be as HTTP can carry it"},
		"a value with a line's end":     {Config{Header: http.Header{"X": {"a\r\nY: b"}}}, "header: must be as HTTP can carry it"},
		"a value with a NUL":            {Config{Header: http.Header{"X": {"a\x00"}}}, "header: must be as HTTP can carry it"},
		"two hosts":                     {Config{Header: http.Header{"Host": {"a", "b"}}}, "one name"},
		"a host with a space":           {Config{Header: http.Header{"Host": {"a b"}}}, "header"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if c.cfg.URL == "" && name != "no URL" {
				c.cfg.URL = "http://example.org/"
			}
			p, err := New(c.cfg)
			if p != nil || !errors.Is(err, queue.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("Host and other headers are sent as given", func(t *testing.T) {
		var got *http.Request
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
		defer s.Close()
		h := http.Header{"host": {"internal.example"}, "x-other": {"yes", "and"}, "Content-Type": {"text/plain"}, "User-Agent": {"me"}, "Authorization": {"Bearer x"}}
		p, err := New(Config{URL: s.URL, AllowPrivate: true, Header: h})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range 2 {
			if rel := worker.Work(t.Context(), p, &queue.Task{ID: 1, Payload: queue.EmptyJSON}); rel.Outcome != queue.OutcomeSuccess {
				t.Fatalf("%s %s", rel.Outcome, rel.Result)
			}
		}
		if got.Host != "internal.example" || len(got.Header["X-Other"]) != 2 || got.Header.Get("Content-Type") != "text/plain" ||
			got.Header.Get("User-Agent") != "me" || got.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("%s %v", got.Host, got.Header)
		}
	})
}
