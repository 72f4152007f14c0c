package httpaccess_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/httpaccess"
)

// askThrough sends a request of a peer through proxies, and returns the remote address and the security that a handler sees.
func askThrough(t *testing.T, p httpaccess.Proxies, peer string, secure bool, header http.Header) (remote string, isSecure bool) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr, r.Header, r.TLS = peer, header, nil
	if secure {
		r.TLS = &tls.ConnectionState{}
	}
	p.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		remote, isSecure = r.RemoteAddr, httpaccess.IsSecure(r)
	})).ServeHTTP(httptest.NewRecorder(), r)
	return remote, isSecure
}

func TestProxies(t *testing.T) {
	p, err := httpaccess.ParseProxies([]string{"10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"})
	if err != nil {
		t.Fatal(err)
	}
	const proxy, client = "10.1.2.3:4711", "203.0.113.7"
	for name, c := range map[string]struct {
		peer   string
		values []string // of X-Forwarded-For
		other  []string // of Forwarded
		want   string
	}{
		"no header":                           {proxy, nil, nil, proxy},
		"one address":                         {proxy, []string{client}, nil, client},
		"from another peer":                   {"198.51.100.1:1", []string{client}, nil, "198.51.100.1:1"},
		"an address of the client's choice":   {proxy, []string{"1.1.1.1, " + client}, nil, client},
		"through two proxies":                 {proxy, []string{"1.1.1.1, " + client + ", 192.0.2.1"}, nil, client},
		"in two headers":                      {proxy, []string{"1.1.1.1", client}, nil, client},
		"proxies alone":                       {proxy, []string{"10.0.0.9, 10.0.0.8"}, nil, "10.0.0.9"},
		"with a port":                         {proxy, []string{client + ":5555"}, nil, client},
		"IPv6":                                {proxy, []string{"2001:db8::7"}, nil, "2001:db8::7"},
		"IPv6 in brackets":                    {proxy, []string{"[2001:db8::7]"}, nil, "2001:db8::7"},
		"IPv6 with a port":                    {proxy, []string{"[2001:db8::7]:443"}, nil, "2001:db8::7"},
		"IPv6 with a zone":                    {proxy, []string{"fe80::1%eth0"}, nil, "fe80::1"},
		"IPv4 in IPv6":                        {proxy, []string{"::ffff:203.0.113.7"}, nil, client},
		"a proxy by IPv6":                     {"[2001:db8:1::5]:1", []string{client}, nil, client},
		"a proxy by IPv4 in IPv6":             {"[::ffff:10.0.0.1]:1", []string{client}, nil, client},
		"a name":                              {proxy, []string{"localhost"}, nil, proxy},
		"unknown":                             {proxy, []string{client + ", unknown"}, nil, proxy},
		"garbage behind a proxy":              {proxy, []string{client + ", ;!, 10.0.0.9"}, nil, "10.0.0.9"},
		"an empty header":                     {proxy, []string{""}, nil, proxy},
		"an empty element":                    {proxy, []string{client + ","}, nil, proxy},
		"a number":                            {proxy, []string{"3405803783"}, nil, proxy},
		"octal digits":                        {proxy, []string{"0203.0.113.7"}, nil, proxy},
		"Forwarded":                           {proxy, nil, []string{"for=" + client}, client},
		"Forwarded with more fields":          {proxy, nil, []string{`for=1.1.1.1, By=10.0.0.1;For="203.0.113.7:80";proto=https`}, client},
		"Forwarded with IPv6":                 {proxy, nil, []string{`for="[2001:db8::7]:4711"`}, "2001:db8::7"},
		"Forwarded of a hidden client":        {proxy, nil, []string{"for=_hidden"}, proxy},
		"Forwarded without an address":        {proxy, nil, []string{"proto=https"}, proxy},
		"both headers":                        {proxy, []string{client}, []string{"for=1.1.1.1"}, client},
		"Forwarded from a peer without trust": {"198.51.100.1:1", nil, []string{"for=" + client}, "198.51.100.1:1"},
		"very many proxies":                   {proxy, []string{strings.Repeat("10.0.0.9,", 20_000) + "10.0.0.8"}, nil, "10.0.0.9"},
		"very many clients":                   {proxy, []string{strings.Repeat("1.1.1.1,", 20_000) + client}, nil, client},
		"100 kB of one word":                  {proxy, []string{strings.Repeat("1", 100_000)}, nil, proxy},
	} {
		header := http.Header{}
		if c.values != nil {
			header["X-Forwarded-For"] = c.values
		}
		if c.other != nil {
			header["Forwarded"] = c.other
		}
		if got, _ := askThrough(t, p, c.peer, false, header); got != c.want {
			t.Errorf("%s: %.100q, want %q", name, got, c.want)
		}
	}
}

func TestProxiesReportTheScheme(t *testing.T) {
	p, err := httpaccess.ParseProxies([]string{"10.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	const proxy, other = "10.0.0.1:1", "198.51.100.1:1"
	for name, c := range map[string]struct {
		peer   string
		tls    bool
		header string
		value  string
		want   bool
	}{
		"plain":                       {other, false, "", "", false},
		"TLS":                         {other, true, "", "", true},
		"a client's own word":         {other, false, "X-Forwarded-Proto", "https", false},
		"a client's own word of less": {other, true, "X-Forwarded-Proto", "http", true},
		"a proxy with TLS":            {proxy, false, "X-Forwarded-Proto", "https", true},
		"a proxy without":             {proxy, false, "X-Forwarded-Proto", "http", false},
		"TLS between, plain in front": {proxy, true, "X-Forwarded-Proto", "http", false},
		"a proxy that says nothing":   {proxy, true, "", "", true},
		"in capitals":                 {proxy, false, "X-Forwarded-Proto", "HTTPS", true},
		"the last of a list":          {proxy, false, "X-Forwarded-Proto", "https, http", false},
		"garbage":                     {proxy, false, "X-Forwarded-Proto", "gopher", false},
		"Forwarded":                   {proxy, false, "Forwarded", "for=1.1.1.1;proto=https", true},
	} {
		header := http.Header{}
		if c.header != "" {
			header.Set(c.header, c.value)
		}
		if _, got := askThrough(t, p, c.peer, c.tls, header); got != c.want {
			t.Errorf("%s: secure %v", name, got)
		}
	}
}

func TestParseProxiesRefuses(t *testing.T) {
	for _, text := range []string{"", "*", "proxy.example.org", "10.0.0.1:80", "10.0.0.0/33", "0.0.0.0/0", "::/0", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0.0/8,1.1.1.1"} {
		if _, err := httpaccess.ParseProxies([]string{text}); queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%q: %v", text, err)
		}
	}
	var none httpaccess.Proxies
	if remote, _ := askThrough(t, none, "10.0.0.1:1", false, http.Header{"X-Forwarded-For": {"1.1.1.1"}}); remote != "10.0.0.1:1" || none.Any() {
		t.Errorf("without proxies the address is %s", remote)
	}
}
