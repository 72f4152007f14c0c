package schedule_test

import (
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

var benchSpecs = []struct {
	name string
	spec schedule.Spec
}{
	{"period", schedule.Spec{Period: time.Minute}},
	{"every minute UTC", schedule.Spec{Cron: "* * * * *"}},
	{"every minute Berlin", schedule.Spec{Cron: "* * * * *", Timezone: "Europe/Berlin"}},
	{"daily UTC", schedule.Spec{Cron: "30 2 * * *"}},
	{"daily Berlin", schedule.Spec{Cron: "30 2 * * *", Timezone: "Europe/Berlin"}},
	{"yearly Berlin", schedule.Spec{Cron: "@yearly", Timezone: "Europe/Berlin"}},
	{"29 February Berlin", schedule.Spec{Cron: "0 0 29 2 *", Timezone: "Europe/Berlin"}},
	// The longest wait is 32 years, by the rule of either kind of schedule.
	{"rare fixed", schedule.Spec{Cron: "0 0 29 2 */4", Timezone: "Europe/Berlin"}},
	{"rare real time", schedule.Spec{Cron: "0 * 29 2 */4", Timezone: "Europe/Berlin"}},
}

func BenchmarkNext(b *testing.B) {
	for _, c := range benchSpecs {
		b.Run(c.name, func(b *testing.B) {
			s := mustParse(b, c.spec)
			anchor := at(b, "2020-01-01T00:00:00Z")
			from := at(b, "2026-03-29T00:40:00Z")
			if c.name[:4] == "rare" {
				from = at(b, "2088-03-01T00:00:00Z")
			}
			b.ReportAllocs()
			for b.Loop() {
				s.Next(anchor, from)
			}
		})
	}
}

func BenchmarkDue(b *testing.B) {
	for _, c := range []struct {
		name   string
		spec   schedule.Spec
		policy schedule.Policy
	}{
		{"100 ms, a year down, once", schedule.Spec{Period: schedule.MinPeriod}, schedule.Policy{}},
		{"100 ms, a year down, all 100", schedule.Spec{Period: schedule.MinPeriod}, schedule.Policy{Misfire: schedule.MisfireAll}},
		{"every minute, a year down, once", schedule.Spec{Cron: "* * * * *", Timezone: "Europe/Berlin"}, schedule.Policy{}},
		{"every minute, a year down, all 100", schedule.Spec{Cron: "* * * * *", Timezone: "Europe/Berlin"}, schedule.Policy{Misfire: schedule.MisfireAll}},
		{"every minute, a year down, all 10000", schedule.Spec{Cron: "* * * * *", Timezone: "Europe/Berlin"}, schedule.Policy{Misfire: schedule.MisfireAll, Limit: schedule.MaxMisfireLimit}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := mustParse(b, c.spec)
			settled := at(b, "2025-06-01T00:00:00Z")
			now := settled.AddDate(1, 0, 0)
			b.ReportAllocs()
			for b.Loop() {
				s.Due(settled, settled, now, c.policy)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, spec := range map[string]schedule.Spec{
		"period":      {Period: time.Minute},
		"cron UTC":    {Cron: "*/15 8-18 * * MON-FRI"},
		"cron Berlin": {Cron: "*/15 8-18 * * MON-FRI", Timezone: "Europe/Berlin"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := schedule.Parse(spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
