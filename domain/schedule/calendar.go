package schedule

import (
	"math/bits"
	"strconv"
	"time"
)

// expr is a parsed cron expression: a set of local date-times on a calendar
// that knows no zones. Local times are minutes since 1970-01-01 00:00. Bit v
// of a set stands for the value v.
type expr struct {
	minutes, hours, doms, months, dows uint64

	domStar, dowStar bool // the day field is starred: see matching
	realTime         bool // the hour field is starred: see doc.go
}

const minutesPerDay = 24 * 60

// matchesSomeDate reports whether any date matches. A weekday that counts on its own
// always occurs; otherwise one of the months must be long enough. The weekday
// does not matter then: the calendar repeats after 400 years, in which every
// date, 29 February too, falls on every weekday.
func (e expr) matchesSomeDate() bool {
	if !e.domStar && !e.dowStar {
		return true
	}
	for m := time.January; m <= time.December; m++ {
		const leapYear = 2000
		if e.months>>m&1 == 1 && e.doms&bitsBelow(daysOfMonth(leapYear, m)+1) != 0 {
			return true
		}
	}
	return false
}

// matchingDays returns the days of a month that match, bit d for day d.
func (e expr) matchingDays(year int, month time.Month) uint64 {
	if e.months>>month&1 == 0 {
		return 0
	}

	// Repeat the seven weekdays from the weekday of day 1 on.
	first := int(time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).Weekday())
	week := (e.dows>>first | e.dows<<(7-first)) & bitsBelow(7)
	weekdays := (week | week<<7 | week<<14 | week<<21 | week<<28) << 1
	inMonth := bitsBelow(daysOfMonth(year, month)+1) &^ 1
	if e.domStar || e.dowStar {
		return e.doms & weekdays & inMonth
	}
	return (e.doms | weekdays) & inMonth
}

// nextMinute returns the first matching local minute in [from, to].
func (e expr) nextMinute(from, to int64) (int64, bool) {
	if from > to {
		return 0, false
	}

	today := divideDown(from, minutesPerDay)
	minute := int(from - today*minutesPerDay)
	year, month, day := dateOfDayNumber(today)
	lastYear, lastMonth, _ := dateOfDayNumber(divideDown(to, minutesPerDay))

	for year < lastYear || year == lastYear && month <= lastMonth {
		days := e.matchingDays(year, month) &^ bitsBelow(day)
		for ; days != 0; days &= days - 1 {
			d := bits.TrailingZeros64(days)
			// Days after the first one match from midnight on.
			if d != day {
				minute = 0
			}
			if m, ok := e.firstMinuteFrom(minute); ok {
				found := numberOfDay(year, month, d)*minutesPerDay + int64(m)
				return found, found <= to
			}
		}

		// Day 0 is before every day of the next month.
		day, minute = 0, 0
		if month++; month > time.December {
			year, month = year+1, time.January
		}
	}
	return 0, false
}

// previousMinute returns the last matching local minute in [from, to].
func (e expr) previousMinute(to, from int64) (int64, bool) {
	if from > to {
		return 0, false
	}

	today := divideDown(to, minutesPerDay)
	minute := int(to - today*minutesPerDay)
	year, month, day := dateOfDayNumber(today)
	firstYear, firstMonth, _ := dateOfDayNumber(divideDown(from, minutesPerDay))

	for year > firstYear || year == firstYear && month >= firstMonth {
		days := e.matchingDays(year, month) & bitsBelow(day+1)
		for days != 0 {
			d := bits.Len64(days) - 1
			days &^= 1 << d
			// Days before the first one match up to their last minute.
			if d != day {
				minute = minutesPerDay - 1
			}
			if m, ok := e.lastMinuteTo(minute); ok {
				found := numberOfDay(year, month, d)*minutesPerDay + int64(m)
				return found, found >= from
			}
		}

		// Day 32 is after every day of the month before.
		day, minute = 32, minutesPerDay-1
		if month--; month < time.January {
			year, month = year-1, time.December
		}
	}
	return 0, false
}

// firstMinuteFrom returns the first matching minute of a day that is at or after minute.
func (e expr) firstMinuteFrom(minute int) (int, bool) {
	hour := minute / 60
	if e.hours>>hour&1 == 1 {
		if m := e.minutes &^ bitsBelow(minute%60); m != 0 {
			return hour*60 + bits.TrailingZeros64(m), true
		}
	}
	if h := e.hours &^ bitsBelow(hour+1); h != 0 {
		return bits.TrailingZeros64(h)*60 + bits.TrailingZeros64(e.minutes), true
	}
	return 0, false
}

// lastMinuteTo returns the last matching minute of a day that is at or before minute.
func (e expr) lastMinuteTo(minute int) (int, bool) {
	hour := minute / 60
	if e.hours>>hour&1 == 1 {
		if m := e.minutes & bitsBelow(minute%60+1); m != 0 {
			return hour*60 + bits.Len64(m) - 1, true
		}
	}
	if h := e.hours & bitsBelow(hour); h != 0 {
		return (bits.Len64(h)-1)*60 + bits.Len64(e.minutes) - 1, true
	}
	return 0, false
}

// bitsBelow returns the set of the values under n, which is at most 63.
func bitsBelow(n int) uint64 { return 1<<n - 1 }

// daysOfMonth returns the number of days of a month.
func daysOfMonth(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// numberOfDay returns the days from 1970-01-01 to a date.
func numberOfDay(year int, month time.Month, day int) int64 {
	return divideDown(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix(), 24*60*60)
}

// dateOfDayNumber is the inverse of numberOfDay.
func dateOfDayNumber(dayNumber int64) (year int, month time.Month, day int) {
	return time.Unix(dayNumber*24*60*60, 0).UTC().Date()
}

// divideDown rounds down where / rounds to zero; b is positive.
func divideDown(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// formatNumber writes n in decimal.
func formatNumber(n int) string { return strconv.Itoa(n) }
