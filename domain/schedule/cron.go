package schedule

import (
	"strings"
)

// cron is an expression read on the clock of a zone. Instants are Unix seconds.
type cron struct {
	expr expr
	zone zone
}

// horizon bounds the search of next and prev, in seconds. See doc.go: an
// expression that fires at all fires within 40 years on the calendar, and clock
// changes move that by days at most.
const horizon = 50 * 366 * 24 * 60 * 60

// macros maps the @-names to expressions. @reboot and @every name no time on a clock.
var macros = map[string]string{
	"@hourly":   "0 * * * *",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@weekly":   "0 0 * * 0",
	"@monthly":  "0 0 1 * *",
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
}

// splitExpression returns the five fields of an expression, or of the one that an @-name stands for. Its errors name
// FieldCron.
func splitExpression(text string) ([]string, error) {
	if len(text) > MaxCronBytes {
		return nil, invalidSpec(FieldCron, "must have at most %d bytes, got %d", MaxCronBytes, len(text))
	}
	for i := range len(text) {
		if c := text[i]; (c < ' ' || c > '~') && c != '\t' {
			return nil, invalidSpec(FieldCron, "must have printable ASCII characters alone, got another one at byte %d; remove it", i+1)
		}
	}

	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, invalidSpec(FieldCron, "must have 5 fields, got none; write minute, hour, day of month, month, day of week")
	}

	// Other cron programs read a zone from the expression; here it has its own field.
	upper := strings.ToUpper(words[0])
	if strings.HasPrefix(upper, "TZ=") || strings.HasPrefix(upper, "CRON_TZ=") {
		return nil, invalidSpec(FieldCron, "must not set a time zone; use timezone")
	}

	if strings.HasPrefix(words[0], "@") {
		return expandMacro(words)
	}
	if len(words) != 5 {
		return nil, invalidSpec(FieldCron, "must have 5 fields, got %d; write minute, hour, day of month, month, day of week, without seconds and years", len(words))
	}
	return words, nil
}

// expandMacro returns the five fields that words, an @-name, stands for.
func expandMacro(words []string) ([]string, error) {
	name := strings.ToLower(words[0])
	if name == "@reboot" || name == "@every" {
		return nil, invalidSpec(FieldCron, "must be times on a clock, got %.64q; use period instead", words[0])
	}

	full, ok := macros[name]
	if !ok || len(words) > 1 {
		return nil, invalidSpec(FieldCron, "must be 5 fields such as \"0 12 * * 1\", or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, got %.64q", strings.Join(words, " "))
	}
	return strings.Fields(full), nil
}

// parseExpression parses an expression of five fields or an @-name. Its errors name FieldCron.
func parseExpression(text string) (expr, error) {
	words, err := splitExpression(text)
	if err != nil {
		return expr{}, err
	}

	var e expr
	for i, f := range []struct {
		field
		set     *uint64
		starred *bool
	}{
		{minuteField, &e.minutes, new(bool)},
		{hourField, &e.hours, &e.realTime},
		{domField, &e.doms, &e.domStar},
		{monthField, &e.months, new(bool)},
		{dowField, &e.dows, &e.dowStar},
	} {
		if *f.set, *f.starred, err = f.parseField(words[i]); err != nil {
			return expr{}, err
		}
	}

	if !e.matchesSomeDate() {
		return expr{}, invalidSpec(FieldCron, "must fire at some time, got the months %.64q without a day of %.64q; choose days that they have", words[3], words[2])
	}
	return e, nil
}

// nextInstant returns the first fire after the instant after.
func (c cron) nextInstant(after int64) (int64, bool) {
	if c.expr.realTime {
		return c.nextRealInstant(after)
	}

	// A fixed local time fires only once, so the search begins behind the
	// latest time that the clock has shown.
	from := divideDown(c.zone.highestLocalBefore(after), 60) + 1
	minute, ok := c.expr.nextMinute(from, from+horizon/60)
	if !ok {
		return 0, false
	}
	return c.zone.firstInstantAt(minute * 60), true
}

// previousInstant returns the last fire that is at or before at and after floor.
func (c cron) previousInstant(at, floor int64) (int64, bool) {
	floor = max(floor, at-horizon)
	if c.expr.realTime {
		return c.previousRealInstant(at, floor)
	}

	from := divideDown(c.zone.highestLocalBefore(floor), 60) + 1
	minute, ok := c.expr.previousMinute(divideDown(c.zone.highestLocalBefore(at), 60), from)
	if !ok {
		return 0, false
	}
	return c.zone.firstInstantAt(minute * 60), true
}

// nextRealInstant returns the first fire after the instant after, for real time. It
// walks the spans of equal offset: within a span, local time runs evenly.
func (c cron) nextRealInstant(after int64) (int64, bool) {
	limit := after + horizon
	for at := after + 1; at <= limit; {
		_, end, offset := c.zone.spanOfOffset(at)
		from := divideDown(at+offset+59, 60)
		to := divideDown(min(end-1, limit)+offset, 60)
		if minute, ok := c.expr.nextMinute(from, to); ok {
			return minute*60 - offset, true
		}
		at = end
	}
	return 0, false
}

// previousRealInstant returns the last fire at or before at and after floor, for real time.
func (c cron) previousRealInstant(at, floor int64) (int64, bool) {
	for at > floor {
		start, _, offset := c.zone.spanOfOffset(at)
		from := divideDown(max(start, floor+1)+offset+59, 60)
		to := divideDown(at+offset, 60)
		if minute, ok := c.expr.previousMinute(to, from); ok {
			return minute*60 - offset, true
		}
		at = start - 1
	}
	return 0, false
}
