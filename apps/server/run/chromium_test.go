package run

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRequestsOfChromium replays the requests that pages of other origins made a Chromium send: forms, fetch, beacons,
// event sources, a WebSocket, parts of a page, frames, links, workers, reports of a policy and a rebound name. The file
// holds them as they were recorded, with the answers of a real server.
func TestRequestsOfChromium(t *testing.T) {
	recorded, err := os.ReadFile("testdata/chromium.txt")
	if err != nil {
		t.Fatal(err)
	}
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.CORSOrigins = []string{"http://localhost:9200"}
	s := start(t, cfg)

	blocks := strings.Split(strings.TrimSpace(string(recorded)), "\n@ ")
	if len(blocks) != 93 {
		t.Fatalf("%d blocks are recorded", len(blocks))
	}
	var common []string
	for line := range strings.Lines(blocks[0]) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			common = append(common, line)
		}
	}
	refusals := []int{http.StatusForbidden, http.StatusMisdirectedRequest, http.StatusUnsupportedMediaType}
	for _, block := range blocks[1:] {
		title, request, _ := strings.Cut(strings.TrimSpace(block), "\n")
		name, want, _ := strings.Cut(title, " | ")
		t.Run(name, func(t *testing.T) {
			head, quoted, _ := strings.Cut(request, "\n\n> ")
			body := ""
			if quoted != "" {
				if err := json.Unmarshal([]byte(quoted), &body); err != nil {
					t.Fatal(err)
				}
			}
			lines := append(strings.Split(head, "\n"), common...)

			status := sendRaw(t, s.Addr().String(), strings.Join(lines, "\r\n")+"\r\n\r\n"+body)
			if refused := slices.Contains(refusals, status); refused != (want != "served") || refused && strconv.Itoa(status) != want {
				t.Errorf("%s: got %d, want %s", lines[0], status, want)
			}
		})
	}
}

// sendRaw sends a request as it is, and returns the status of the answer.
func sendRaw(t *testing.T, addr, request string) int {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}
