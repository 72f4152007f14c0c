package sqltx

import (
	"testing"
	"time"
)

// TestFormatInterval: PostgreSQL 14 reads each field of an interval as 32 bits.
func TestFormatInterval(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0:00:00.000000", time.Microsecond: "0:00:00.000001", 90 * time.Minute: "1:30:00.000000", -1500 * time.Millisecond: "-0:00:01.500000",
		3650*24*time.Hour + time.Microsecond: "87600:00:00.000001", 1<<63 - 1: "2562047:47:16.854775", -1 << 63: "-2562047:47:16.854775",
	} {
		if got := formatInterval(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
