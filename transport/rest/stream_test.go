package rest_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
)

func (s *stack) request(method, path, body string, header ...string) *http.Request {
	s.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, content)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func (st *sse) read() {
	in := bufio.NewScanner(st.body)
	in.Buffer(nil, 16<<20)
	var e event
	for in.Scan() {
		switch k, v, _ := strings.Cut(in.Text(), ": "); k {
		case "event":
			e.name = v
		case "id":
			e.id = v
		case "data":
			e.data += v
		case "":
			if in.Text() == "" && e != (event{}) {
				st.events <- e
				e = event{}
			}
		}
	}
}
