package connectclient_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

func TestWithoutANamespaceTheServersCounts(t *testing.T) {
	s := serve(t)
	shop := &stack{svc: must[queue.Service](t)(s.svc.In("shop"))}
	shop.start(t, "127.0.0.1:0")
	c := shop.client(t)
	q := must[*queue.Queue](t)(c.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}))
	if q.Namespace != "shop" {
		t.Errorf("the queue is of %s", q.Namespace)
	}
	fill(t, c, "mail", 1, queue.QueueMeta{})
	held := must[[]*queue.Task](t)(stream(t, c).RetainTasks(t.Context(), queue.RetainRequest{Worker: "w", Queues: []string{"mail"}}))
	if len(held) != 1 || held[0].Namespace != "shop" {
		t.Errorf("a stream holds %v", held)
	}
	if c.Namespace() != queue.DefaultNamespace {
		t.Errorf("the client says it is bound to %s", c.Namespace())
	}
}

func TestAPathBeforeTheServerIsKept(t *testing.T) {
	s := serve(t)
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(http.StripPrefix("/behind/a/proxy", httputil.NewSingleHostReverseProxy(target)))
	proxy.Config.Protocols = new(http.Protocols)
	proxy.Config.Protocols.SetUnencryptedHTTP2(true)
	proxy.Start()
	t.Cleanup(proxy.Close)
	c := must[*connectclient.Client](t)(connectclient.New(proxy.URL + "/behind/a/proxy/"))
	t.Cleanup(c.Close)
	must[[]string](t)(c.ListNamespaces(t.Context()))
	for _, bad := range []string{s.url + "?a=b", s.url + "#a", "localhost:8080", "ftp://localhost"} {
		if _, err := connectclient.New(bad); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestAServerOfHTTP1IsNamed holds the error of net/http that the client knows by its text alone.
func TestAServerOfHTTP1IsNamed(t *testing.T) {
	old := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(old.Close)
	c := must[*connectclient.Client](t)(connectclient.New(old.URL))
	t.Cleanup(c.Close)
	_, err := c.ListNamespaces(t.Context())
	if e, ok := errors.AsType[*queue.Error](err); !ok || e.Kind != queue.KindInvalid || e.Field != "url" {
		t.Errorf("got %v", err)
	}
}

// TestAFrameThatIsTooLargeIsNoInput: a server of HTTP/2 that answers with a frame above the limit may have acted on the request.
func TestAFrameThatIsTooLargeIsNoInput(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// Settings without values, and then the head of a frame of 16 MiB.
			_, _ = conn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1})
		}
	}()
	c := must[*connectclient.Client](t)(connectclient.New("http://" + listener.Addr().String()))
	t.Cleanup(c.Close)
	if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: "mail"}); queue.KindOf(err) != queue.KindIndeterminate {
		t.Errorf("got %v", err)
	}
}

func TestListOfNamespacesIsWholeOrNamesItsNext(t *testing.T) {
	s := serve(t)
	for i := range 120 {
		in := must[queue.Service](t)(s.svc.In(fmt.Sprintf("n%03d", i)))
		must[*queue.Queue](t)(in.CreateQueue(t.Context(), queue.QueueMeta{Name: "q"}))
	}
	if names := must[[]string](t)(s.client(t).ListNamespaces(t.Context())); len(names) != 121 {
		t.Error(len(names))
	}

	for request, want := range map[string]struct {
		status, names int
		next          string
	}{
		`{}`: {200, 121, ""}, `{"page":{"limit":"7"}}`: {200, 7, "n006"}, `{"page":{"limit":"7","cursor":"n006"}}`: {200, 7, "n013"},
		`{"page":{"offset":"100","limit":"1000"}}`: {200, 21, ""}, `{"page":{"limit":"1001"}}`: {400, 0, ""}, `{"page":{"offset":"-1"}}`: {400, 0, ""},
		`{"page":{"offset":"1","cursor":"n001"}}`: {400, 0, ""},
	} {
		resp := must[*http.Response](t)(http.Post(s.url+"/pgqueue.v1.NamespaceService/ListNamespaces", "application/json", strings.NewReader(request)))
		var list struct {
			Namespaces  []string
			Count, Next string
		}
		err := json.NewDecoder(resp.Body).Decode(&list)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || len(list.Namespaces) != want.names || list.Next != want.next || want.status == 200 && list.Count != "121" {
			t.Errorf("%s: %d %+v, %v", request, resp.StatusCode, list, err)
		}
	}
}
