package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgqueue/pgqueue/domain/access"
)

var descExpiring = prometheus.NewDesc("pgqueue_tokens_expiring",
	"Live tokens that expire within 14 days and that no rotation has replaced.", nil, nil)

// tokensAge is how old the list of tokens of a scrape may be, because tokens change seldom.
const tokensAge = time.Minute

// WatchTokens adds the number of tokens that soon expire. They are listed when scraped, at most once in a minute. When the
// store does not answer in time the gauge is missing.
func (t *Telemetry) WatchTokens(tokens access.Tokens) error {
	if t.m == nil {
		return nil
	}
	return t.registry.Register(&tokensCollector{tokens: tokens, timeout: t.cfg.statsTimeout})
}

// tokensCollector lists the tokens for a scrape.
type tokensCollector struct {
	tokens  access.Tokens
	timeout time.Duration

	mu       sync.Mutex
	read     time.Time // of the last list that the store gave; zero = none
	expiring int
}

func (*tokensCollector) Describe(ch chan<- *prometheus.Desc) { ch <- descExpiring }

func (c *tokensCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.read.IsZero() || now.Sub(c.read) >= tokensAge {
		ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
		defer cancel()
		all, err := c.tokens.ListTokens(ctx)
		if err != nil {
			c.read = time.Time{}
			return
		}
		c.read, c.expiring = now, len(access.Expiring(all))
	}
	ch <- prometheus.MustNewConstMetric(descExpiring, prometheus.GaugeValue, float64(c.expiring))
}
