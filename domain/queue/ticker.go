package queue

import (
	"encoding/json"
	"fmt"
	"time"
)

// Misfire says what happens to the ticks that fell into a downtime.
type Misfire string

// The misfire policies.
const (
	MisfireSkip Misfire = "skip" // none of them fires
	MisfireOnce Misfire = "once" // one fires for all of them
	MisfireAll  Misfire = "all"  // each fires, at most MisfireLimit
)

// Valid says that m is one of the three.
func (m Misfire) Valid() bool { return m == MisfireSkip || m == MisfireOnce || m == MisfireAll }

// Overlap says what happens to a tick while the last tick's task is unfinished.
type Overlap string

// The overlap policies.
const (
	OverlapAllow Overlap = "allow"
	OverlapSkip  Overlap = "skip"
)

// Valid says that o is one of the two.
func (o Overlap) Valid() bool { return o == OverlapAllow || o == OverlapSkip }

// Ticker is a named recurring trigger of a namespace (contract section 5). Either Period or Cron is set.
type Ticker struct {
	Namespace string
	Name      string
	// Period is a fixed interval; nominal times are Anchor + k·Period.
	Period time.Duration
	// Cron is a 5-field expression, or @hourly and the like.
	Cron string
	// Timezone is an IANA name; "" = UTC.
	Timezone string
	// Queue where each tick becomes a task; "" = ticks only go to listeners.
	Queue        string
	Payload      json.RawMessage
	Misfire      Misfire
	MisfireLimit int
	Overlap      Overlap
	Paused       bool
	// Timestamp is the nominal time of the last tick; zero before the first.
	Timestamp time.Time
	// NextAt is the nominal time of the next tick; zero while paused.
	NextAt time.Time
	// Fault is why it did not fire, or made no task, when it was last due; "" = all is well. A tick that succeeds, and an
	// update, clear it.
	Fault string
	// Anchor is where a period counts from: the creation, or the last change of the schedule.
	Anchor    time.Time
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// TickerMeta is what a caller says of a ticker. On create nil means the default; on update nil means unchanged.
// Setting Period takes Cron away and the other way round.
type TickerMeta struct {
	Name         string
	Period       *time.Duration
	Cron         *string
	Timezone     *string
	Queue        *string
	Payload      json.RawMessage
	Misfire      *Misfire
	MisfireLimit *int
	Overlap      *Overlap
	Paused       *bool
	// IfVersion refuses an update with ErrPrecondition unless the ticker has this version; 0 = whatever it has.
	IfVersion int64
}

// Tick is one firing of a ticker.
type Tick struct {
	ID        int64
	Namespace string
	Ticker    string
	// At is the nominal time.
	At time.Time
	// FiredAt is when it fired by the database's clock.
	FiredAt time.Time
	// TaskID is the task it became; 0 when the ticker has no queue, or when Skipped.
	TaskID int64
	// Skipped says that the overlap policy kept it from becoming a task.
	Skipped bool
	// Manual marks a tick of RunTicker; At is the time of that call.
	Manual  bool
	Payload json.RawMessage
	// Queue of the task.
	Queue string
	// Period and Cron of the ticker, for listeners.
	Period time.Duration
	Cron   string
}

// Bytes is about how many bytes t takes in an answer.
func (t *Ticker) Bytes() int { return taskFrame + len(t.Payload) + TextBytes(t.Fault) }

// Bytes is about how many bytes t takes in an answer.
func (t *Tick) Bytes() int { return taskFrame + len(t.Payload) }

// NewTicker is the ticker that meta creates in namespace: defaults filled in, names normalised, limits checked, the
// schedule parsed. Times and version are the store's.
func NewTicker(namespace string, meta TickerMeta, maxPayloadBytes int) (Ticker, error) {
	n, err := TickerName(meta.Name)
	if err != nil {
		return Ticker{}, err
	}

	t, err := Ticker{
		Namespace: namespace, Name: n, Payload: EmptyJSON, Misfire: MisfireOnce, MisfireLimit: DefaultMisfireLimit,
		Overlap: OverlapAllow, Version: 1,
	}.With(meta, maxPayloadBytes)
	if err != nil {
		return t, err
	}

	_, err = t.Schedule()
	return t, err
}

// With is the ticker after an update by meta; t itself stays as it is. A schedule that meta leaves alone is not looked at:
// one that this host cannot read, as for want of its time zone, must not be in the way of pausing or mending the ticker.
func (t Ticker) With(meta TickerMeta, maxPayloadBytes int) (Ticker, error) {
	// A period of 0 and an empty cron mean absent, as the predecessor's clients send them.
	var period time.Duration
	var cron string
	setIfGiven(&period, meta.Period)
	setIfGiven(&cron, meta.Cron)
	switch {
	case period != 0 && cron != "":
		return t, Invalid("period", "must not come with cron; leave one out")
	case period != 0:
		t.Period, t.Cron = period, ""
	case cron != "":
		t.Period, t.Cron = 0, cron
	}

	setIfGiven(&t.Timezone, meta.Timezone)
	setIfGiven(&t.Misfire, meta.Misfire)
	setIfGiven(&t.MisfireLimit, meta.MisfireLimit)
	setIfGiven(&t.Overlap, meta.Overlap)
	setIfGiven(&t.Paused, meta.Paused)
	setIfGiven(&t.Queue, meta.Queue)

	var err error
	// An update to "" takes the queue away, so the empty name is not checked.
	if t.Queue != "" {
		if t.Queue, err = QueueName(t.Queue); err != nil {
			return t, err
		}
	}

	if len(meta.Payload) > 0 {
		if err := CheckJSON("payload", meta.Payload, maxPayloadBytes); err != nil {
			return t, err
		}
		t.Payload = meta.Payload
	}

	if err := t.checkPolicies(); err != nil {
		return t, err
	}

	if meta.Timezone != nil {
		// A wrong zone is reported as such, whatever else the schedule lacks.
		if err := checkTimezone(t.Timezone); err != nil {
			return t, err
		}
	}
	if period != 0 || cron != "" || meta.Timezone != nil {
		_, err = t.Schedule()
	}
	return t, err
}

// checkPolicies checks the values that decide over missed and overlapping ticks.
func (t Ticker) checkPolicies() error {
	switch {
	case !t.Misfire.Valid():
		return Invalid("misfire", fmt.Sprintf("must be skip, once or all, got %.64q", t.Misfire))
	case !t.Overlap.Valid():
		return Invalid("overlap", fmt.Sprintf("must be allow or skip, got %.64q", t.Overlap))
	}
	return CheckInt("misfire_limit", t.MisfireLimit, 1, MaxMisfireLimit)
}

// TickerPage is a page of tickers.
type TickerPage struct {
	Tickers []*Ticker
	Count   int64
	// Next is the cursor of the next page, "" at the end, and only there. A page may be shorter than its limit, because it
	// reached MaxPageBytes.
	Next string
}
