package schedule_test

import (
	"fmt"
	"time"

	"github.com/pgqueue/pgqueue/domain/schedule"
)

func ExampleSchedule_Preview() {
	s, err := schedule.Parse(schedule.Spec{Cron: "30 2 * * *", Timezone: "America/New_York"})
	if err != nil {
		fmt.Println(err)
		return
	}
	created := time.Date(2026, time.March, 6, 12, 0, 0, 0, time.UTC)
	for _, fire := range s.Preview(created, created, 3) {
		fmt.Println(fire.In(s.Location()))
	}
	// Output:
	// 2026-03-07 02:30:00 -0500 EST
	// 2026-03-08 03:00:00 -0400 EDT
	// 2026-03-09 02:30:00 -0400 EDT
}

func ExampleSchedule_Due() {
	s, err := schedule.Parse(schedule.Spec{Period: time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	created := time.Date(2026, time.March, 6, 12, 0, 0, 0, time.UTC)
	lastTick := created.Add(2 * time.Hour)
	now := created.Add(5*time.Hour + 20*time.Minute) // three ticks later
	for _, misfire := range []schedule.Misfire{schedule.MisfireSkip, schedule.MisfireOnce, schedule.MisfireAll} {
		out := s.Due(created, lastTick, now, schedule.Policy{Misfire: misfire})
		fmt.Print(misfire, ":")
		for _, fire := range out.Fires {
			fmt.Print(" ", fire.Format("15:04"))
		}
		fmt.Println(", next", out.Next.Format("15:04"))
	}
	// Output:
	// skip:, next 18:00
	// once: 17:00, next 18:00
	// all: 15:00 16:00 17:00, next 18:00
}

func ExampleParse_errors() {
	for _, expr := range []string{"*/60 * * * *", "0 0 30 2 *", "TZ=UTC 0 0 * * *"} {
		_, err := schedule.Parse(schedule.Spec{Cron: expr})
		fmt.Println(err)
	}
	// Output:
	// cron: minute field, "*/60": a step must be a number from 1 to 59, got "60"
	// cron: must fire at some time, got the months "2" without a day of "30"; choose days that they have
	// cron: must not set a time zone; use timezone
}
