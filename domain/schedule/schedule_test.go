package schedule_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // so that the tests do not depend on the host's zones being there

	"github.com/pgqueue/pgqueue/domain/schedule"
)

func mustParse(tb testing.TB, spec schedule.Spec) schedule.Schedule {
	tb.Helper()
	s, err := schedule.Parse(spec)
	if err != nil {
		tb.Fatalf("Parse(%+v): %v", spec, err)
	}
	return s
}

func cronIn(tb testing.TB, expr, zone string) schedule.Schedule {
	tb.Helper()
	return mustParse(tb, schedule.Spec{Cron: expr, Timezone: zone})
}

func every(tb testing.TB, d time.Duration) schedule.Schedule {
	tb.Helper()
	return mustParse(tb, schedule.Spec{Period: d})
}

func at(tb testing.TB, rfc3339 string) time.Time {
	tb.Helper()
	t, err := time.Parse(time.RFC3339Nano, rfc3339)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// between lists the nominal times in [from, to).
func between(s schedule.Schedule, from, to time.Time) []time.Time {
	var fires []time.Time
	for t, ok := s.Next(time.Time{}, from.Add(-time.Nanosecond)); ok && t.Before(to); t, ok = s.Next(time.Time{}, t) {
		fires = append(fires, t)
	}
	return fires
}

func TestParseAccepts(t *testing.T) {
	for name, spec := range map[string]schedule.Spec{
		"the shortest period":                       {Period: 100 * time.Millisecond},
		"the longest period":                        {Period: schedule.MaxPeriod},
		"a period with a zone it has no use for":    {Period: time.Hour, Timezone: "Europe/Berlin"},
		"five stars":                                {Cron: "* * * * *"},
		"spaces and tabs in any number":             {Cron: " \t0  2\t* * * "},
		"lists of ranges with steps":                {Cron: "0-10/5,30,40-59/7 8-18/2,23 1,15 1-3,DEC mon-fri"},
		"names in any case":                         {Cron: "0 0 * jan,Feb,MAR Sun-tue"},
		"both Sundays":                              {Cron: "0 0 * * 0,7"},
		"a week that ends on Sunday":                {Cron: "0 0 * * FRI-SUN"},
		"a name in any case":                        {Cron: "@Hourly"},
		"leading zeros":                             {Cron: "05 08 01 02 *"},
		"29 February":                               {Cron: "0 0 29 2 *"},
		"30 February when a weekday counts instead": {Cron: "0 0 30 2 MON"},
		"an expression of the longest length":       {Cron: "0 0 * * " + strings.Repeat("1,", 123) + "1 "},
		"zones with digits and signs":               {Cron: "0 0 * * *", Timezone: "Etc/GMT+5"},
		"zones with three parts":                    {Cron: "0 0 * * *", Timezone: "America/Argentina/Buenos_Aires"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustParse(t, spec)
			if _, ok := s.Next(time.Unix(0, 0), time.Unix(0, 0)); !ok {
				t.Error("accepted, and never fires")
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spec  schedule.Spec
		field string
		says  string
	}{
		"neither period nor cron":           {schedule.Spec{}, "period", "must be a period or a cron expression"},
		"both period and cron":              {schedule.Spec{Period: time.Hour, Cron: "* * * * *"}, "cron", "leave one out"},
		"a period just too short":           {schedule.Spec{Period: 100*time.Millisecond - time.Microsecond}, "period", "100ms to 10 years"},
		"a period just too long":            {schedule.Spec{Period: schedule.MaxPeriod + time.Microsecond}, "period", "100ms to 10 years"},
		"a negative period":                 {schedule.Spec{Period: -time.Hour}, "period", "got -1h"},
		"the most negative period":          {schedule.Spec{Period: -1 << 63}, "period", "to 10 years"},
		"half a microsecond":                {schedule.Spec{Period: time.Second + 500}, "period", "whole number of microseconds"},
		"a blank expression":                {schedule.Spec{Cron: " \t "}, "cron", "got none"},
		"an expression one byte too long":   {schedule.Spec{Cron: "* * * * *" + strings.Repeat(" ", 248)}, "cron", "at most 256 bytes, got 257"},
		"an expression of 10 KB":            {schedule.Spec{Cron: strings.Repeat("1,", 5120)}, "cron", "at most 256 bytes, got 10240"},
		"a non-ASCII expression":            {schedule.Spec{Cron: "0 0 * * Ⅶ"}, "cron", "got another one at byte 9"},
		"a newline":                         {schedule.Spec{Cron: "0 0 * * *\n"}, "cron", "got another one at byte 10"},
		"a NUL byte":                        {schedule.Spec{Cron: "0 0 * * *\x00"}, "cron", "byte 10"},
		"four fields":                       {schedule.Spec{Cron: "0 0 * *"}, "cron", "must have 5 fields, got 4"},
		"one field":                         {schedule.Spec{Cron: "0"}, "cron", "must have 5 fields, got 1"},
		"six fields, as for seconds":        {schedule.Spec{Cron: "0 0 0 * * *"}, "cron", "without seconds and years"},
		"a zone by TZ=":                     {schedule.Spec{Cron: "TZ=Europe/Berlin 0 0 * * *"}, "cron", "use timezone"},
		"a bare TZ=":                        {schedule.Spec{Cron: "TZ="}, "cron", "use timezone"},
		"a zone by CRON_TZ=":                {schedule.Spec{Cron: "CRON_TZ=UTC 0 0 * * *"}, "cron", "use timezone"},
		"@reboot":                           {schedule.Spec{Cron: "@reboot"}, "cron", "use period"},
		"@every":                            {schedule.Spec{Cron: "@every 5m"}, "cron", "use period"},
		"an unknown name":                   {schedule.Spec{Cron: "@fortnightly"}, "cron", "@hourly, @daily"},
		"words after a name":                {schedule.Spec{Cron: "@daily 0 0"}, "cron", `got "@daily 0 0"`},
		"a lone at sign":                    {schedule.Spec{Cron: "@"}, "cron", `got "@"`},
		"minute 60":                         {schedule.Spec{Cron: "60 0 * * *"}, "cron", "minute field, \"60\": must be 0 to 59, got 60"},
		"hour 24":                           {schedule.Spec{Cron: "0 24 * * *"}, "cron", "hour field, \"24\": must be 0 to 23, got 24"},
		"day 0":                             {schedule.Spec{Cron: "0 0 0 * *"}, "cron", "day of month field, \"0\": must be 1 to 31, got 0"},
		"day 32":                            {schedule.Spec{Cron: "0 0 32 * *"}, "cron", "must be 1 to 31"},
		"month 13":                          {schedule.Spec{Cron: "0 0 * 13 *"}, "cron", "must be 1 to 12 or JAN to DEC"},
		"weekday 8":                         {schedule.Spec{Cron: "0 0 * * 8"}, "cron", "must be 0 to 7 (0 and 7 are Sunday) or SUN to SAT"},
		"a month's name among the weekdays": {schedule.Spec{Cron: "0 0 * * JAN"}, "cron", `got "JAN"`},
		"a negative number":                 {schedule.Spec{Cron: "-5 0 * * *"}, "cron", `must be 0 to 59, got "-5"`},
		"an open range":                     {schedule.Spec{Cron: "5- 0 * * *"}, "cron", `got "5-"`},
		"a huge number":                     {schedule.Spec{Cron: "99999999999999999999 0 * * *"}, "cron", "must be 0 to 59, got 9"},
		"a huge end of a range":             {schedule.Spec{Cron: "0 0 1--100000000 * *"}, "cron", "must be 1 to 31, got"},
		"a sign":                            {schedule.Spec{Cron: "+5 0 * * *"}, "cron", "must be 0 to 59, got"},
		"a step of zero":                    {schedule.Spec{Cron: "*/0 0 * * *"}, "cron", "minute field, \"*/0\": a step must be a number from 1 to 59"},
		"a step as wide as the field":       {schedule.Spec{Cron: "*/60 * * * *"}, "cron", "from 1 to 59"},
		"a huge step":                       {schedule.Spec{Cron: "0 */99999999999999999999 * * *"}, "cron", "from 1 to 23"},
		"no step after the slash":           {schedule.Spec{Cron: "*/ 0 * * *"}, "cron", "a step must be"},
		"two steps":                         {schedule.Spec{Cron: "*/2/2 0 * * *"}, "cron", "a step must be"},
		"a step from a single value":        {schedule.Spec{Cron: "5/15 0 * * *"}, "cron", "write 5-59/15"},
		"a range downwards":                 {schedule.Spec{Cron: "0 22-4 * * *"}, "cron", "must be a range that goes upwards"},
		"a week around its end":             {schedule.Spec{Cron: "0 0 * * SAT-MON"}, "cron", "must be a range that goes upwards"},
		"an empty element":                  {schedule.Spec{Cron: "1,,2 0 * * *"}, "cron", "empty element"},
		"a comma at the end":                {schedule.Spec{Cron: "1, 0 * * *"}, "cron", "empty element"},
		"a question mark":                   {schedule.Spec{Cron: "0 0 ? * *"}, "cron", `got "?"`},
		"the last day by letter":            {schedule.Spec{Cron: "0 0 L * *"}, "cron", `got "L"`},
		"30 February":                       {schedule.Spec{Cron: "0 0 30 2 *"}, "cron", `must fire at some time, got the months "2" without a day of "30"; choose days that they have`},
		"the 31st of short months":          {schedule.Spec{Cron: "0 0 31 2,4,6,9,11 *"}, "cron", "must fire at some time"},
		"30 February on starred weekdays":   {schedule.Spec{Cron: "0 0 30 2 */2"}, "cron", "must fire at some time"},
		"an unknown zone":                   {schedule.Spec{Period: time.Hour, Timezone: "Mars/Olympus_Mons"}, "timezone", "must be in the time zone database"},
		"the host's zone":                   {schedule.Spec{Period: time.Hour, Timezone: "Local"}, "timezone", "must not depend on the host"},
		"the host's zone by its file":       {schedule.Spec{Period: time.Hour, Timezone: "localtime"}, "timezone", "must not depend on the host"},
		"a zone with leap seconds":          {schedule.Spec{Period: time.Hour, Timezone: "right/Europe/Berlin"}, "timezone", "must be an IANA name"},
		"a path as a zone":                  {schedule.Spec{Period: time.Hour, Timezone: "../../etc/passwd"}, "timezone", "must be an IANA name"},
		"an absolute path as a zone":        {schedule.Spec{Period: time.Hour, Timezone: "/etc/localtime"}, "timezone", "must be an IANA name"},
		"a folder as a zone":                {schedule.Spec{Period: time.Hour, Timezone: "America"}, "timezone", "must be in the time zone database"},
		"an offset as a zone":               {schedule.Spec{Period: time.Hour, Timezone: "+02:00"}, "timezone", "must be an IANA name"},
		"a zone with a space":               {schedule.Spec{Period: time.Hour, Timezone: "Europe/Berlin "}, "timezone", "must be an IANA name"},
		"a non-ASCII zone":                  {schedule.Spec{Period: time.Hour, Timezone: "Europe/Zürich"}, "timezone", "must be an IANA name"},
		"a zone name one byte too long":     {schedule.Spec{Period: time.Hour, Timezone: strings.Repeat("a", 65)}, "timezone", "at most 64 bytes, got 65"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := schedule.Parse(c.spec)
			var e *schedule.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v, want a *schedule.Error", err)
			}
			if e.Field != c.field || !strings.Contains(e.Msg, c.says) {
				t.Errorf("error %q, want field %s and %q", err, c.field, c.says)
			}
			if len(err.Error()) > 700 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
			if _, ok := s.Next(time.Time{}, time.Time{}); ok {
				t.Error("what came with the error fires")
			}
		})
	}
}

func TestCronNext(t *testing.T) {
	for name, c := range map[string]struct {
		expr, after string
		want        []string
	}{
		"a fire at the very instant is not after it":       {"30 2 * * *", "2026-01-01T02:30:00Z", []string{"2026-01-02T02:30:00Z"}},
		"a nanosecond before a fire is before it":          {"30 2 * * *", "2026-01-01T02:29:59.999999999Z", []string{"2026-01-01T02:30:00Z"}},
		"@hourly is on the hour":                           {"@hourly", "2026-01-01T00:00:00Z", []string{"2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"}},
		"@daily is at midnight":                            {"@daily", "2026-01-01T00:00:00Z", []string{"2026-01-02T00:00:00Z"}},
		"@midnight is at midnight":                         {"@midnight", "2026-01-01T00:00:00Z", []string{"2026-01-02T00:00:00Z"}},
		"@weekly is on Sunday":                             {"@weekly", "2026-01-01T00:00:00Z", []string{"2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"}},
		"@monthly is on the 1st":                           {"@monthly", "2026-01-01T00:00:00Z", []string{"2026-02-01T00:00:00Z"}},
		"@yearly is on 1 January":                          {"@yearly", "2026-01-01T00:00:00Z", []string{"2027-01-01T00:00:00Z"}},
		"@annually is on 1 January":                        {"@annually", "2026-01-01T00:00:00Z", []string{"2027-01-01T00:00:00Z"}},
		"7 is Sunday":                                      {"0 0 * * 7", "2026-01-01T00:00:00Z", []string{"2026-01-04T00:00:00Z"}},
		"FRI-SUN is three days":                            {"0 0 * * FRI-SUN", "2026-01-01T00:00:00Z", []string{"2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", "2026-01-09T00:00:00Z"}},
		"two restricted day fields: either is enough":      {"0 0 13 * FRI", "2026-02-01T00:00:00Z", []string{"2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z"}},
		"a starred day of month: both must match":          {"0 0 */2 * MON", "2026-01-01T00:00:00Z", []string{"2026-01-05T00:00:00Z", "2026-01-19T00:00:00Z", "2026-02-09T00:00:00Z", "2026-02-23T00:00:00Z"}},
		"a full range is restricted: either is enough":     {"0 0 1-31 * MON", "2026-01-01T00:00:00Z", []string{"2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"}},
		"the 31st skips short months":                      {"0 0 31 * *", "2026-01-31T00:00:00Z", []string{"2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"}},
		"29 February skips common years":                   {"0 0 29 2 *", "2024-02-29T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
		"29 February waits eight years around 2100":        {"0 0 29 2 *", "2096-02-29T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		"29 February on some weekdays waits for decades":   {"0 0 29 2 */4", "2076-03-01T00:00:00Z", []string{"2080-02-29T00:00:00Z", "2088-02-29T00:00:00Z", "2120-02-29T00:00:00Z"}},
		"a step starts at the start of its range":          {"10-30/15 0 1 1 *", "2026-01-01T00:00:00Z", []string{"2026-01-01T00:10:00Z", "2026-01-01T00:25:00Z", "2027-01-01T00:10:00Z"}},
		"before 1970 it is the same":                       {"59 23 31 12 *", "1968-12-31T23:58:59.5Z", []string{"1968-12-31T23:59:00Z", "1969-12-31T23:59:00Z", "1970-12-31T23:59:00Z"}},
		"an after in another zone is the same instant":     {"30 2 * * *", "2026-01-01T04:29:59+02:00", []string{"2026-01-01T02:30:00Z"}},
		"the last minute of the year 9999 is the last one": {"59 23 31 12 *", "9998-12-31T23:59:00Z", []string{"9999-12-31T23:59:00Z", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			s, after := cronIn(t, c.expr, ""), at(t, c.after)
			for _, want := range c.want {
				got, ok := s.Next(time.Time{}, after)
				if want == "" {
					if ok {
						t.Fatalf("Next(%v) = %v, want never", after, got)
					}
					return
				}
				if !ok || !got.Equal(at(t, want)) {
					t.Fatalf("Next(%v) = %v, %v, want %s", after, got, ok, want)
				}
				if got.Location() != time.UTC {
					t.Fatalf("Next gives a time in %v, want UTC", got.Location())
				}
				after = got
			}
		})
	}
}

// TestLongestWaitIsUnderTheHorizon proves the 50 years of doc.go: no expression
// waits longer than 29 February on one given weekday does.
func TestLongestWaitIsUnderTheHorizon(t *testing.T) {
	last, longest := map[time.Weekday]int{}, 0
	for year := 1600; year < 1600+800; year++ {
		day := time.Date(year, time.February, 29, 0, 0, 0, 0, time.UTC)
		if day.Day() != 29 {
			continue
		}
		if before, ok := last[day.Weekday()]; ok {
			longest = max(longest, year-before)
		}
		last[day.Weekday()] = year
	}
	if len(last) != 7 || longest != 40 {
		t.Errorf("29 February falls on %d weekdays, at most %d years apart; doc.go says 7 and 40", len(last), longest)
	}
}

func TestPeriodNext(t *testing.T) {
	const anchor = "2026-01-01T10:00:00Z"
	for name, c := range map[string]struct {
		period              time.Duration
		anchor, after, want string
	}{
		"the first fire is one period after the anchor":   {time.Hour, anchor, anchor, "2026-01-01T11:00:00Z"},
		"an after long before the anchor gives the first": {time.Hour, anchor, "0001-01-01T00:00:00Z", "2026-01-01T11:00:00Z"},
		"a fire at the very instant is not after it":      {time.Hour, anchor, "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"},
		"a late look does not move what follows":          {time.Hour, anchor, "2026-01-01T13:47:11.5Z", "2026-01-01T14:00:00Z"},
		"a nanosecond before a fire is before it":         {time.Hour, anchor, "2026-01-01T10:59:59.999999999Z", "2026-01-01T11:00:00Z"},
		"a nanosecond after a fire is after it":           {time.Hour, anchor, "2026-01-01T11:00:00.000000001Z", "2026-01-01T12:00:00Z"},
		"an anchor loses what PostgreSQL cannot store":    {time.Second, "2026-01-01T10:00:00.123456789Z", anchor, "2026-01-01T10:00:01.123456Z"},
		"100 ms after a century is exact":                 {100 * time.Millisecond, "1926-01-01T10:00:00.05Z", "2026-01-01T10:00:00Z", "2026-01-01T10:00:00.05Z"},
		"a thousand years after the anchor is exact":      {7 * time.Hour, "1000-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T04:00:00Z"},
		"there is nothing after the year 9999":            {time.Hour, anchor, "9999-12-31T23:30:00Z", ""},
		"an anchor at the end of time never fires":        {schedule.MaxPeriod, "9999-01-01T00:00:00Z", "9999-01-01T00:00:00Z", ""},
		"a clock change does not matter to a period":      {24 * time.Hour, "2026-03-07T07:30:00Z", "2026-03-08T08:00:00Z", "2026-03-09T07:30:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := every(t, c.period).Next(at(t, c.anchor), at(t, c.after))
			if c.want == "" {
				if ok {
					t.Fatalf("Next = %v, want never", got)
				}
				return
			}
			if !ok || !got.Equal(at(t, c.want)) {
				t.Fatalf("Next = %v, %v, want %s", got, ok, c.want)
			}
		})
	}
}

func TestAnchor(t *testing.T) {
	s := cronIn(t, "0 12 * * *", "")
	got, ok := s.Next(at(t, "2026-06-01T12:00:00Z"), time.Time{})
	if want := at(t, "2026-06-02T12:00:00Z"); !ok || !got.Equal(want) {
		t.Errorf("a cron schedule fires first at %v, %v, want %v: after its anchor", got, ok, want)
	}
}

func TestTimesOutsideOfTheCalendar(t *testing.T) {
	far := []time.Time{
		{},
		time.Unix(-1<<62, 0), time.Unix(1<<62, 0), time.Unix(-1<<63, 0), time.Unix(1<<63-1, 999_999_999),
		time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for _, s := range []schedule.Schedule{
		{}, every(t, time.Second), every(t, schedule.MaxPeriod), cronIn(t, "30 2 * * *", "Europe/Berlin"), cronIn(t, "* * * * *", "America/New_York"),
	} {
		for _, anchor := range far {
			for _, after := range far {
				if got, ok := s.Next(anchor, after); ok && (got.Year() < 1 || got.Year() > 9999) {
					t.Errorf("%v: Next(%v, %v) = %v", s, anchor, after, got)
				}
				for _, now := range far {
					for _, m := range []schedule.Misfire{schedule.MisfireSkip, schedule.MisfireOnce, schedule.MisfireAll} {
						for _, f := range s.Due(anchor, after, now, schedule.Policy{Misfire: m}).Fires {
							if f.Year() < 1 || f.Year() > 9999 {
								t.Errorf("%v: Due(%v, %v, %v) fires at %v", s, anchor, after, now, f)
							}
						}
					}
				}
			}
		}
	}
}

func TestPreview(t *testing.T) {
	s := cronIn(t, "0 9 * * MON", "Europe/Berlin")
	from := at(t, "2026-03-20T00:00:00Z")
	for name, c := range map[string]struct{ n, want int }{
		"none for a negative number": {-1, 0},
		"none for zero":              {0, 0},
		"one":                        {1, 1},
		"as many as are allowed":     {1000, 1000},
		"no more than are allowed":   {1001, 1000},
		"no more than are allowed for a huge number": {1 << 62, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.Preview(time.Time{}, from, c.n); len(got) != c.want {
				t.Errorf("%d fires, want %d", len(got), c.want)
			}
		})
	}
	t.Run("is what Next gives one after the other", func(t *testing.T) {
		after := from
		for _, got := range s.Preview(time.Time{}, from, 100) {
			want, _ := s.Next(time.Time{}, after)
			if !got.Equal(want) {
				t.Fatalf("%v, want %v", got, want)
			}
			after = want
		}
	})
	t.Run("is shorter at the end of time", func(t *testing.T) {
		if got := s.Preview(time.Time{}, at(t, "9999-12-01T00:00:00Z"), 10); len(got) != 4 {
			t.Errorf("%d fires, want the 4 Mondays left", len(got))
		}
	})
}

func TestDescriptions(t *testing.T) {
	for want, spec := range map[string]schedule.Spec{
		"every 1h":                   {Period: time.Hour},
		"every 1h30m":                {Period: 90 * time.Minute},
		"every 1m30s":                {Period: 90 * time.Second},
		"every 10s":                  {Period: 10 * time.Second},
		"every 100ms":                {Period: 100 * time.Millisecond},
		"@daily (UTC)":               {Cron: "@daily"},
		"0 2 * * * (Europe/Berlin)":  {Cron: "0 2 * * *", Timezone: "Europe/Berlin"},
		"0 2 * * * (Pacific/Easter)": {Cron: "0 2 * * *", Timezone: "Pacific/Easter"},
	} {
		s := mustParse(t, spec)
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if again := mustParse(t, s.Spec()); again.Spec() != s.Spec() {
			t.Errorf("the spec of %v is parsed as %+v", s, again.Spec())
		}
	}
	var zero schedule.Schedule
	if zero.String() != "never" || zero.Location() != time.UTC {
		t.Errorf("the zero schedule is %q in %v", zero, zero.Location())
	}
}

func TestScheduleConcurrentSafe(t *testing.T) {
	s := cronIn(t, "30 2 * * *", "America/New_York")
	want := s.Preview(time.Time{}, at(t, "2026-01-01T00:00:00Z"), 500)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i, got := range s.Preview(time.Time{}, at(t, "2026-01-01T00:00:00Z"), 500) {
				if !got.Equal(want[i]) {
					t.Errorf("fire %d is %v, want %v", i, got, want[i])
					return
				}
			}
		})
	}
	wg.Wait()
}
