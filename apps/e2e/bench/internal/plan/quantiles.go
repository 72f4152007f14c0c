package plan

import (
	"math"
	"slices"
	"time"
)

// Quantiles describe a sample of latencies in milliseconds.
type Quantiles struct {
	N    int     `json:"n"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
	// Curve holds the quantiles 0, 0.01 ... 0.99 and 1 for a plot.
	Curve []float64 `json:"curve,omitempty"`
}

// QuantilesOf sorts sample and returns its quantiles by the nearest rank.
func QuantilesOf(sample []time.Duration) Quantiles {
	if len(sample) == 0 {
		return Quantiles{}
	}
	slices.Sort(sample)
	at := func(q float64) float64 {
		rank := max(int(math.Ceil(q*float64(len(sample)))), 1)
		return ms(sample[rank-1])
	}

	q := Quantiles{N: len(sample), P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: ms(sample[len(sample)-1])}
	var sum time.Duration
	for _, d := range sample {
		sum += d
	}
	q.Mean = ms(sum / time.Duration(len(sample)))

	for i := range 101 {
		q.Curve = append(q.Curve, at(float64(i)/100))
	}
	return q
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
