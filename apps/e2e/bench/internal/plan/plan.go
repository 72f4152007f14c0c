// Package plan is what the conductor of a benchmark and those who play it say to each other: the conductor starts a
// player in a process of its own with a Plan, the player announces each phase and its end as lines of JSON and waits for
// a line before it goes on, so that the conductor can read the clocks of both sides exactly at the edges.
package plan

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Plan is what a player is to do.
type Plan struct {
	// Contender is who plays.
	Contender string `json:"contender"`
	// Scenario is one of the scripts: drain, live, offered, pickup, or for the server: create, pairs, ...
	Scenario string `json:"scenario"`
	// URL of the database.
	URL string `json:"url"`
	// Schema is the SQL that installs a contender which does not bring its own; "" = none.
	Schema string `json:"schema,omitempty"`
	// Tasks to insert, in batches of Batch by Producers at once.
	Tasks     int `json:"tasks"`
	Batch     int `json:"batch"`
	Producers int `json:"producers"`
	// Workers is how many handlers may run at once.
	Workers int `json:"workers"`
	// HandlerMillis is how long each handler sleeps; 0 = it does nothing.
	HandlerMillis int `json:"handler_millis"`
	// Queues to spread the tasks over.
	Queues int `json:"queues"`
	// PayloadBytes is the size of a payload, 0 = a number.
	PayloadBytes int `json:"payload_bytes"`
	// Delayed tasks are there before the script begins; they become due in an hour.
	Delayed int `json:"delayed"`
	// Rate of an offered load in tasks a second.
	Rate int `json:"rate"`
	// Seconds that a script without a number of tasks goes on.
	Seconds float64 `json:"seconds"`
	// Samples of the latency of single tasks.
	Samples int `json:"samples"`
	// Server is the base URL of the server and Clients how many call it at once.
	Server  string `json:"server"`
	Clients int    `json:"clients"`
	// CPUProfile is a file to write; "" = none.
	CPUProfile string `json:"cpu_profile"`
}

// Limit is how long the player may take for all of it.
func (p Plan) Limit() time.Duration {
	return 3*time.Minute + time.Duration(p.Seconds*float64(time.Second)) +
		time.Duration(p.Tasks+p.Delayed)*250*time.Microsecond + time.Duration(p.Samples)*50*time.Millisecond
}

// Handle is what a handler does.
func (p Plan) Handle() {
	if p.HandlerMillis > 0 {
		Pause(context.Background(), time.Duration(p.HandlerMillis)*time.Millisecond)
	}
}

// Ideal is the time that n handlers take when slots run at once, every moment: nothing but the handlers themselves.
func (p Plan) Ideal(n, slots int) time.Duration {
	if slots <= 0 {
		return 0
	}
	return time.Duration((n+slots-1)/slots) * time.Duration(p.HandlerMillis) * time.Millisecond
}

// Result is what a player says of a phase. What it leaves out is zero.
type Result struct {
	// N things were done in Seconds.
	N       int     `json:"n"`
	Seconds float64 `json:"seconds"`
	// Latency by what it is counted from.
	Latency map[string]Quantiles `json:"latency,omitempty"`
	// Series is the rate of each second in turn.
	Series []float64 `json:"series,omitempty"`
	// Errors counts what failed; Error is the first of them.
	Errors int    `json:"errors,omitempty"`
	Error  string `json:"error,omitempty"`
}

// message is one line of a player.
type message struct {
	Begin  string  `json:"begin,omitempty"`
	End    string  `json:"end,omitempty"`
	Result *Result `json:"result,omitempty"`
}

// Stage is the player's side.
type Stage struct {
	in  *bufio.Reader
	out *json.Encoder
}

// NewStage speaks over the player's standard input and output.
func NewStage(in io.Reader, out io.Writer) *Stage {
	return &Stage{in: bufio.NewReader(in), out: json.NewEncoder(out)}
}

// Phase announces a phase, does it and reports it. Seconds is filled in when do left it out.
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

// Listen is the conductor's side: it calls begin and end as the player says so, and lets the player go on when they
// return. It returns when the player has closed its output.
func Listen(from io.Reader, to io.Writer, begin func(phase string) error, end func(phase string, r Result) error) error {
	for dec := json.NewDecoder(from); ; {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("what a player said: %w", err)
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
		if _, err := io.WriteString(to, "\n"); err != nil {
			return err
		}
	}
}
