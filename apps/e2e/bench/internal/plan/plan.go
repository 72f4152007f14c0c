// Package plan is the protocol between the conductor of a benchmark and its players. The conductor starts a player in
// a separate process with a Plan. The player announces each phase and its end as lines of JSON. It waits for a line
// before it continues, so that the conductor reads the clocks of both sides exactly at the edges.
package plan

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Plan is the task of a player.
type Plan struct {
	// Contender is the name of the player.
	Contender string `json:"contender"`
	// Scenario is one of the scripts: drain, live, offered, pickup, or for the server: create, pairs, ...
	Scenario string `json:"scenario"`
	// URL is the URL of the database.
	URL string `json:"url"`
	// Schema is the SQL that installs a contender without its own installer; "" = none.
	Schema string `json:"schema,omitempty"`
	// Tasks is the number of tasks to insert, in batches of Batch by Producers at once.
	Tasks     int `json:"tasks"`
	Batch     int `json:"batch"`
	Producers int `json:"producers"`
	// Workers is the largest number of handlers at once.
	Workers int `json:"workers"`
	// HandlerMillis is the sleep of each handler; 0 = none.
	HandlerMillis int `json:"handler_millis"`
	// Queues is the number of queues for the tasks.
	Queues int `json:"queues"`
	// Groups is the number of groups of the tasks; those of one group run one after the other, in order. 0 = no groups.
	Groups int `json:"groups,omitempty"`
	// PayloadBytes is the size of a payload; 0 = only a number.
	PayloadBytes int `json:"payload_bytes"`
	// Delayed is the number of tasks that exist before the script begins and are due in an hour.
	Delayed int `json:"delayed"`
	// Rate is the rate of an offered load in tasks a second.
	Rate int `json:"rate"`
	// Seconds is the duration of a script without a number of tasks.
	Seconds float64 `json:"seconds"`
	// Samples is the number of single tasks in a latency measurement.
	Samples int `json:"samples"`
	// Server is the base URL of the server; Clients is the number of concurrent callers.
	Server  string `json:"server"`
	Clients int    `json:"clients"`
	// Token is the credential for the server; "" = none, for an open one. No report contains it.
	Token string `json:"token,omitempty"`
	// CPUProfile is a file to write; "" = none.
	CPUProfile string `json:"cpu_profile"`
}

// Limit returns the largest duration of the whole player.
func (p Plan) Limit() time.Duration {
	return 3*time.Minute + time.Duration(p.Seconds*float64(time.Second)) +
		time.Duration(p.Tasks+p.Delayed)*250*time.Microsecond + time.Duration(p.Samples)*50*time.Millisecond
}

// GroupOf returns the group of task n; "" = none.
func (p Plan) GroupOf(n int) string {
	if p.Groups == 0 {
		return ""
	}
	return fmt.Sprint("g", n%p.Groups)
}

// Handle does the work of one handler.
func (p Plan) Handle() {
	if p.HandlerMillis > 0 {
		Pause(context.Background(), time.Duration(p.HandlerMillis)*time.Millisecond)
	}
}

// Ideal returns the time of n handlers in always busy slots, without any overhead.
func (p Plan) Ideal(n, slots int) time.Duration {
	if slots <= 0 {
		return 0
	}
	return time.Duration((n+slots-1)/slots) * time.Duration(p.HandlerMillis) * time.Millisecond
}

// Result is the player's report of a phase. A missing value is zero.
type Result struct {
	// N operations took Seconds.
	N       int     `json:"n"`
	Seconds float64 `json:"seconds"`
	// Latency is keyed by the start of the measurement.
	Latency map[string]Quantiles `json:"latency,omitempty"`
	// Series holds the rate of each second.
	Series []float64 `json:"series,omitempty"`
	// Errors counts the failures; Error is the first of them.
	Errors int    `json:"errors,omitempty"`
	Error  string `json:"error,omitempty"`
}

// message is one line from a player.
type message struct {
	Begin  string  `json:"begin,omitempty"`
	End    string  `json:"end,omitempty"`
	Result *Result `json:"result,omitempty"`
}

// Stage is the player's side of the protocol.
type Stage struct {
	in  *bufio.Reader
	out *json.Encoder
}

// NewStage uses the standard input and output of the player.
func NewStage(in io.Reader, out io.Writer) *Stage {
	return &Stage{in: bufio.NewReader(in), out: json.NewEncoder(out)}
}

// Phase announces a phase, runs do and reports its result. It fills in Seconds when do leaves it out.
func (s *Stage) Phase(name string, do func() (Result, error)) error {
	if err := s.say(message{Begin: name}); err != nil {
		return err
	}
	begin := time.Now()
	r, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if r.Seconds == 0 {
		r.Seconds = time.Since(begin).Seconds()
	}
	return s.say(message{End: name, Result: &r})
}

func (s *Stage) say(m message) error {
	if err := s.out.Encode(m); err != nil {
		return err
	}
	_, err := s.in.ReadString('\n')
	return err
}

// Listen is the conductor's side. It calls begin and end when the player announces them, and lets the player continue
// when they return. It returns when the player has closed its output.
func Listen(from io.Reader, to io.Writer, begin func(phase string) error, end func(phase string, r Result) error) error {
	for dec := json.NewDecoder(from); ; {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("output of a player: %w", err)
		}

		var err error
		switch {
		case m.Begin != "":
			err = begin(m.Begin)
		case m.End != "" && m.Result != nil:
			err = end(m.End, *m.Result)
		}
		if err != nil {
			return err
		}

		// The empty line lets the player continue.
		if _, err := io.WriteString(to, "\n"); err != nil {
			return err
		}
	}
}
