package background

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestFaultsAreLoggedOnceAndTenAMinute(t *testing.T) {
	var l faultLog
	var many []queue.Fault
	for i := range 30 {
		many = append(many, queue.Fault{Subject: fmt.Sprint(i)})
	}
	now := time.Now()
	if n := len(l.recordFaults(many, now)); n != 10 {
		t.Errorf("%d lines at once", n)
	}
	if n := len(l.recordFaults(many, now.Add(30*time.Second))); n != 0 {
		t.Errorf("%d more lines in the same minute", n)
	}
	if n := len(l.recordFaults(many[:3], now.Add(2*time.Minute))); n != 3 {
		t.Errorf("%d lines in the next minute", n)
	}
	if n := len(l.recordFaults([]queue.Fault{{Subject: "x", Known: true}}, now.Add(4*time.Minute))); n != 0 {
		t.Errorf("a known fault is logged %d times", n)
	}
}
