package plan_test

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/plan"
)

func TestQuantilesOf(t *testing.T) {
	var sample []time.Duration
	for i := 100; i >= 1; i-- {
		sample = append(sample, time.Duration(i)*time.Millisecond)
	}
	q := plan.QuantilesOf(sample)
	if q.N != 100 || q.P50 != 50 || q.P95 != 95 || q.P99 != 99 || q.Max != 100 || q.Mean != 50.5 {
		t.Errorf("1 to 100 ms have %+v", q)
	}
	if len(q.Curve) != 101 || q.Curve[0] != 1 || q.Curve[50] != 50 || q.Curve[100] != 100 {
		t.Errorf("their curve is %v", q.Curve)
	}
	if q := plan.QuantilesOf([]time.Duration{7 * time.Millisecond}); q.P50 != 7 || q.P99 != 7 {
		t.Errorf("one of 7 ms has %+v", q)
	}
	if q := plan.QuantilesOf(nil); q.N != 0 || q.Curve != nil {
		t.Errorf("none has %+v", q)
	}
}

// stage connects a player with a conductor.
func stage(t *testing.T, player func(*plan.Stage) error, begin func(string) error, end func(string, plan.Result) error) (listened, played error) {
	t.Helper()
	toConductor, fromPlayer := io.Pipe()
	toPlayer, fromConductor := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- player(plan.NewStage(toPlayer, fromPlayer))
		fromPlayer.Close()
	}()
	listened = plan.Listen(toConductor, fromConductor, begin, end)
	fromConductor.Close()
	toConductor.Close()
	return listened, <-done
}

func TestStage(t *testing.T) {
	var said []string
	listened, played := stage(t, func(s *plan.Stage) error {
		for _, name := range []string{"insert", "drain"} {
			err := s.Phase(name, func() (plan.Result, error) {
				said = append(said, "do "+name) // the conductor has answered and waits
				return plan.Result{N: 3}, nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, func(phase string) error {
		said = append(said, "begin "+phase)
		return nil
	}, func(phase string, r plan.Result) error {
		said = append(said, "end "+phase)
		if r.N != 3 || r.Seconds <= 0 {
			t.Errorf("%s came as %+v", phase, r)
		}
		return nil
	})
	want := []string{"begin insert", "do insert", "end insert", "begin drain", "do drain", "end drain"}
	if listened != nil || played != nil || !slices.Equal(said, want) {
		t.Errorf("got %v, %v, %v", said, listened, played)
	}
}

func TestStageStopsWhenTheConductorDoes(t *testing.T) {
	cause := errors.New("no clock")
	listened, played := stage(t, func(s *plan.Stage) error {
		return s.Phase("insert", func() (plan.Result, error) {
			t.Error("it went on")
			return plan.Result{}, nil
		})
	}, func(string) error { return cause }, nil)
	if !errors.Is(listened, cause) || played == nil {
		t.Errorf("got %v, %v", listened, played)
	}
}

func TestListenRefusesNoise(t *testing.T) {
	listened, _ := stage(t, func(*plan.Stage) error { return nil }, nil, nil)
	if listened != nil {
		t.Errorf("a player that says nothing: %v", listened)
	}
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "connected to the database\n")
		w.Close()
	}()
	if err := plan.Listen(r, io.Discard, nil, nil); err == nil {
		t.Error("noise was taken for a message")
	}
}
