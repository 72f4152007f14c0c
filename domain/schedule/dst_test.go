package schedule_test

import (
	"testing"
	"time"
)

// fireClocks lists the fires of some local days by their local time, with the
// offset that distinguishes two passes.
func fireClocks(t *testing.T, expr, zone, firstDay, lastDay string) []string {
	t.Helper()
	s := cronIn(t, expr, zone)
	// The search has a margin on both sides, and the local time selects the fires:
	// midnight itself may not exist.
	from, to := at(t, firstDay+"T00:00:00Z").AddDate(0, 0, -2), at(t, lastDay+"T00:00:00Z").AddDate(0, 0, 3)
	var clocks []string
	for _, f := range between(s, from, to) {
		wall := f.In(s.Location())
		if day := wall.Format(time.DateOnly); day >= firstDay && day <= lastDay {
			clocks = append(clocks, wall.Format("02 15:04 -0700"))
		}
	}
	return clocks
}

func TestFixedTimesAtClockChanges(t *testing.T) {
	for name, c := range map[string]struct {
		expr, zone, first, last string
		want                    []string
	}{
		"New York: 02:30 in the gap fires at its end": {
			"30 2 * * *", "America/New_York", "2026-03-07", "2026-03-09",
			[]string{"07 02:30 -0500", "08 03:00 -0400", "09 02:30 -0400"},
		},
		"New York: 01:30 that exists twice fires the first time": {
			"30 1 * * *", "America/New_York", "2026-10-31", "2026-11-02",
			[]string{"31 01:30 -0400", "01 01:30 -0400", "02 01:30 -0500"},
		},
		"New York: the first minute of the gap is in it": {
			"0 2 * * *", "America/New_York", "2026-03-08", "2026-03-08", []string{"08 03:00 -0400"},
		},
		"New York: the minute before the gap is not in it": {
			"59 1 * * *", "America/New_York", "2026-03-08", "2026-03-08", []string{"08 01:59 -0500"},
		},
		"New York: a time in the gap and the end of the gap are one fire": {
			"0,30 2,3 * * *", "America/New_York", "2026-03-08", "2026-03-08",
			[]string{"08 03:00 -0400", "08 03:30 -0400"},
		},
		"New York: several times in the gap are one fire": {
			"10,20,30 2 * * *", "America/New_York", "2026-03-08", "2026-03-08", []string{"08 03:00 -0400"},
		},
		"New York: a list of hours does not repeat": {
			"0,30 0-3 * * *", "America/New_York", "2026-11-01", "2026-11-01",
			[]string{"01 00:00 -0400", "01 00:30 -0400", "01 01:00 -0400", "01 01:30 -0400", "01 02:00 -0500", "01 02:30 -0500", "01 03:00 -0500", "01 03:30 -0500"},
		},
		"Berlin: 02:30 in the gap fires at its end": {
			"30 2 * * *", "Europe/Berlin", "2026-03-29", "2026-03-29", []string{"29 03:00 +0200"},
		},
		"Berlin: 02:30 that exists twice fires the first time": {
			"30 2 * * *", "Europe/Berlin", "2026-10-25", "2026-10-25", []string{"25 02:30 +0200"},
		},
		"Berlin: the day of month in a gap still counts": {
			"30 2 29 3 *", "Europe/Berlin", "2026-03-01", "2026-04-30", []string{"29 03:00 +0200"},
		},
		"Lord Howe: a gap of half an hour ends at 02:30": {
			"15 2 * * *", "Australia/Lord_Howe", "2026-10-04", "2026-10-05",
			[]string{"04 02:30 +1100", "05 02:15 +1100"},
		},
		"Lord Howe: 02:30 is the first instant after the gap": {
			"0,15,30,45 2 * * *", "Australia/Lord_Howe", "2026-10-04", "2026-10-04",
			[]string{"04 02:30 +1100", "04 02:45 +1100"},
		},
		"Lord Howe: half an hour exists twice": {
			"15,45 1 * * *", "Australia/Lord_Howe", "2026-04-05", "2026-04-05",
			[]string{"05 01:15 +1100", "05 01:45 +1100"},
		},
		"Sao Paulo: a midnight that does not exist fires at 01:00": {
			"0 0 * * *", "America/Sao_Paulo", "2018-11-03", "2018-11-05",
			[]string{"03 00:00 -0300", "04 01:00 -0200", "05 00:00 -0200"},
		},
		"Sao Paulo: midnight after a repeated last hour fires once": {
			"30 23 * * *", "America/Sao_Paulo", "2018-02-17", "2018-02-18",
			[]string{"17 23:30 -0200", "18 23:30 -0300"},
		},
		"Cairo: a midnight that does not exist fires at 01:00": {
			"0 0 * * *", "Africa/Cairo", "2024-04-25", "2024-04-27",
			[]string{"25 00:00 +0200", "26 01:00 +0300", "27 00:00 +0300"},
		},
		"Cairo: four changes in one year fire once a day each": {
			"30 0 * * *", "Africa/Cairo", "2010-09-09", "2010-09-11",
			[]string{"09 00:30 +0200", "10 01:00 +0300", "11 00:30 +0300"},
		},
		"Asuncion: a midnight that does not exist fires at 01:00": {
			"0 0 * * *", "America/Asuncion", "2023-09-30", "2023-10-02",
			[]string{"30 00:00 -0400", "01 01:00 -0300", "02 00:00 -0300"},
		},
		"Asuncion: a weekday without a midnight fires on it": {
			"0 0 * * SUN", "America/Asuncion", "2023-09-30", "2023-10-02", []string{"01 01:00 -0300"},
		},
		"Asuncion: 23:30 that exists twice fires the first time": {
			"30 23 * * *", "America/Asuncion", "2024-03-23", "2024-03-24",
			[]string{"23 23:30 -0300", "24 23:30 -0400"},
		},
		"Apia: a day that was left out fires at the start of the next": {
			"0 12 * * *", "Pacific/Apia", "2011-12-29", "2011-12-31",
			[]string{"29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400"},
		},
		"Apia: 30 December 2011 fires though it was left out": {
			"0 12 30 12 *", "Pacific/Apia", "2011-12-01", "2012-01-31", []string{"31 00:00 +1400"},
		},
		"Apia: a whole day of fires left out is one fire": {
			"0,30 1-23 30 12 *", "Pacific/Apia", "2011-12-01", "2012-01-31", []string{"31 00:00 +1400"},
		},
		"Kwajalein: a day that existed twice fires the first time": {
			"0 12 30 9 *", "Pacific/Kwajalein", "1969-09-29", "1969-10-02", []string{"30 12:00 +1100"},
		},
		"Casablanca: summer time ends for Ramadan and begins again": {
			"30 2 * * *", "Africa/Casablanca", "2024-03-10", "2024-03-10", []string{"10 02:30 +0100"},
		},
		"Troll: a gap of two hours": {
			"30 1 * * *", "Antarctica/Troll", "2026-03-29", "2026-03-29", []string{"29 03:00 +0200"},
		},
		"Caracas: a change that is not summer time": {
			"45 2 * * *", "America/Caracas", "2016-05-01", "2016-05-01", []string{"01 03:00 -0400"},
		},
		"Pyongyang: a gap at the end of the day fires at midnight": {
			"45 23 * * *", "Asia/Pyongyang", "2018-05-04", "2018-05-05",
			[]string{"05 00:00 +0900", "05 23:45 +0900"},
		},
		"Berlin: the last day of a far leap year is a day like others": {
			"30 2 * * *", "Europe/Berlin", "2044-12-30", "2045-01-01",
			[]string{"30 02:30 +0100", "31 02:30 +0100", "01 02:30 +0100"},
		},
		"Berlin: standard local time came in 6 min 32 s after midnight": {
			"3 0 1 4 *", "Europe/Berlin", "1893-04-01", "1893-04-01", []string{"01 00:06 +0100"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := fireClocks(t, c.expr, c.zone, c.first, c.last)
			if len(got) != len(c.want) {
				t.Fatalf("fires at %q, want %q", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Fatalf("fires at %q, want %q", got, c.want)
				}
			}
		})
	}
}

func TestStarredTimesAtClockChanges(t *testing.T) {
	const spring, autumn, plain = "2026-03-08", "2026-11-01", "2026-06-01"
	for name, c := range map[string]struct {
		expr, zone, day string
		want            int
	}{
		"every half hour fires 48 times on a plain day":          {"*/30 * * * *", "America/New_York", plain, 48},
		"every half hour fires 46 times on the day of 23 hours":  {"*/30 * * * *", "America/New_York", spring, 46},
		"every half hour fires 50 times on the day of 25 hours":  {"*/30 * * * *", "America/New_York", autumn, 50},
		"hourly fires 23 times on the day of 23 hours":           {"30 * * * *", "America/New_York", spring, 23},
		"hourly fires 25 times on the day of 25 hours":           {"@hourly", "America/New_York", autumn, 25},
		"every minute fires 1380 times on the day of 23 hours":   {"* * * * *", "America/New_York", spring, 1380},
		"every minute fires 1500 times on the day of 25 hours":   {"* * * * *", "America/New_York", autumn, 1500},
		"a starred minute of hour 2 fires once in spring":        {"*/15 2 * * *", "America/New_York", spring, 1},
		"a starred minute of hour 1 fires 4 times in autumn":     {"*/15 1 * * *", "America/New_York", autumn, 4},
		"every second hour leaves out the hour in the gap":       {"0 */2 * * *", "America/New_York", spring, 11},
		"every hour by a range is 24 fixed times in autumn":      {"0 0-23 * * *", "America/New_York", autumn, 24},
		"every hour by a range is 23 fires in spring":            {"0 0-23 * * *", "America/New_York", spring, 23},
		"a star in a list of hours is a star":                    {"30 5,* * * *", "America/New_York", autumn, 25},
		"starred days do not matter: a fixed time fires once":    {"30 1 */1 */1 */1", "America/New_York", autumn, 1},
		"every half hour is one less on Lord Howe in spring":     {"*/30 * * * *", "Australia/Lord_Howe", "2026-10-04", 47},
		"every half hour is one more on Lord Howe in autumn":     {"*/30 * * * *", "Australia/Lord_Howe", "2026-04-05", 49},
		"hourly on the day that Apia left out does not fire":     {"0 * 30 12 *", "Pacific/Apia", "2011-12-30", 0},
		"hourly in Cairo on the day without midnight is 23 long": {"@hourly", "Africa/Cairo", "2024-04-26", 23},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fireClocks(t, c.expr, c.zone, c.day, c.day); len(got) != c.want {
				t.Errorf("%d fires, want %d: %q", len(got), c.want, got)
			}
		})
	}
	t.Run("every half hour is half an hour of real time on both days", func(t *testing.T) {
		s := cronIn(t, "*/30 * * * *", "America/New_York")
		for _, from := range []string{"2026-03-08T05:00:00Z", "2026-11-01T04:00:00Z"} {
			last := at(t, from)
			for _, f := range s.Preview(time.Time{}, last, 60) {
				if f.Sub(last) != 30*time.Minute {
					t.Fatalf("from %v to %v", last, f)
				}
				last = f
			}
		}
	})
}

func TestAnchorInARepeatedHour(t *testing.T) {
	// Created at 01:30 in the second pass: 01:45 has fired in the first pass.
	s := cronIn(t, "45 1 * * *", "America/New_York")
	got, _ := s.Next(at(t, "2026-11-01T01:30:00-05:00"), time.Time{})
	if want := at(t, "2026-11-02T01:45:00-05:00"); !got.Equal(want) {
		t.Errorf("fires first at %v, want %v", got, want)
	}
}
