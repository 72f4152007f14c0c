package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WatchTLS adds the end of the certificate of the port to the metrics. notAfter is called when scraped and must be quick.
func (t *Telemetry) WatchTLS(notAfter func() time.Time) error {
	if t.m == nil {
		return nil
	}
	return t.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pgqueue_tls_not_after_timestamp_seconds", Help: "End of the certificate of the port, as a Unix time.",
	}, func() float64 { return float64(notAfter().Unix()) }))
}
