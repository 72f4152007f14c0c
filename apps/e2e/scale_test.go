package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// scaleAnswer is the answer of a way to ask for slots.
type scaleAnswer struct {
	Slots    float64     `json:"slots"`
	Ready    json.Number `json:"ready"`
	Retained json.Number `json:"retained"`
	Active   bool        `json:"active"`
}

// TestScaleByEachWay asks for the slots of queues by REST, Connect, the command and the view. Each answers alike, and refuses alike.
func TestScaleByEachWay(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	dsn := postgrestest.Empty(t)
	n := startNodeAt(t, dsn)
	c := connect(t, n)
	for name, tasks := range map[string]int{"mail": 4, "hooks": 2, "empty": 0} {
		if _, err := c.CreateQueue(t.Context(), queue.QueueMeta{Name: name}); err != nil {
			t.Fatal(err)
		}
		for range tasks {
			if _, err := c.CreateTask(t.Context(), name, queue.TaskMeta{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := c.RetainTasks(t.Context(), queue.RetainRequest{Queues: []string{"mail"}, Worker: "w", Limit: 1}); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()

	for _, x := range []struct {
		queues []string
		within string // "" = the default
		want   scaleAnswer
	}{
		{[]string{"mail"}, "", scaleAnswer{4, "3", "1", true}},
		{[]string{"mail", "hooks", " MAIL "}, "", scaleAnswer{6, "5", "1", true}},
		{[]string{"mail", "hooks"}, "1h", scaleAnswer{6, "5", "1", true}},
		{[]string{"empty"}, "30s", scaleAnswer{0, "0", "0", false}},
	} {
		rest, err := scaleByREST(t, n, x.queues, x.within)
		rpc, err2 := scaleByConnect(t, n, x.queues, x.within)
		cli, err3 := scaleByCommand(t, n, x.queues, x.within)
		if rest != x.want || rpc != x.want || cli != x.want || errors.Join(err, err2, err3) != nil {
			t.Errorf("%q within %q: REST %+v, %v; Connect %+v, %v; command %+v, %v; want %+v", x.queues, x.within, rest, err, rpc, err2, cli, err3, x.want)
		}
		var view float64
		err = conn.QueryRow(t.Context(), "select sum(wanted_slots) from pgqueue.queue_stats where queue = any ($1)", x.queues).Scan(&view)
		if err != nil || x.within != "1h" && view != x.want.Slots {
			t.Errorf("%q: the view has %v slots (%v), want %v", x.queues, view, err, x.want.Slots)
		}
	}

	for _, x := range []struct {
		queues []string
		within string
		says   []string
	}{
		{[]string{"none"}, "", []string{"queue none"}},
		{[]string{"mail"}, "1ms", []string{"within", "must be from 1s to 24h, got 1ms"}},
		{[]string{"mail"}, "25h", []string{"within", "must be from 1s to 24h"}},
		{[]string{"a b"}, "", []string{"queue", "must be a letter first"}},
	} {
		for way, ask := range map[string]func(*testing.T, *node, []string, string) (scaleAnswer, error){
			"REST": scaleByREST, "Connect": scaleByConnect, "the command": scaleByCommand,
		} {
			_, err := ask(t, n, x.queues, x.within)
			for _, says := range x.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%q within %q by %s: %v; want %q", x.queues, x.within, way, err, says)
				}
			}
		}
	}
}

// sendScale sends a request and reads the slots of its answer, or the message of its error.
func sendScale(t *testing.T, method, address string, body []byte) (got scaleAnswer, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return got, errors.New(string(text))
	}
	got.Ready, got.Retained = "0", "0" // JSON of protobuf leaves out a zero
	return got, json.Unmarshal(text, &got)
}

func scaleByREST(t *testing.T, n *node, queues []string, within string) (scaleAnswer, error) {
	t.Helper()
	query := url.Values{"queue": queues[1:]}
	if within != "" {
		query.Set("within", within)
	}
	return sendScale(t, http.MethodGet, n.url+"/queue/"+url.PathEscape(queues[0])+"/scale?"+query.Encode(), nil)
}

func scaleByConnect(t *testing.T, n *node, queues []string, within string) (scaleAnswer, error) {
	t.Helper()
	ask := map[string]any{"queue": queues[0], "more_queues": queues[1:]}
	if within != "" {
		d, err := time.ParseDuration(within)
		if err != nil {
			t.Fatal(err)
		}
		ask["within"] = strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
	}
	body, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	return sendScale(t, http.MethodPost, strings.TrimSuffix(n.url, "/api")+"/pgqueue.v1.QueueService/ScaleQueues", body)
}

func scaleByCommand(t *testing.T, n *node, queues []string, within string) (got scaleAnswer, err error) {
	t.Helper()
	args := append([]string{"scale", "--url", n.url}, queues...)
	if within != "" {
		args = append(args, "--within", within)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs(t), "pgqueue"), args...).Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return got, errors.New(string(failed.Stderr))
	}
	if err != nil {
		t.Fatal(err)
	}
	return got, json.Unmarshal(out, &got)
}
