package seal

import "time"

// WithClock sets the clock of a codec.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }
