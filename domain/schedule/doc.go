// Package schedule computes when a ticker fires. It is arithmetic only: every
// function gets its times from the caller, reads no clock, starts nothing and
// keeps nothing. So the memory store, the SQL store, the preview and the tests
// get the same result from the same functions.
//
// A [Spec] names a fixed period or a five-field cron expression with a time
// zone. [Parse] checks it once and gives a [Schedule], a value that any number
// of goroutines may share:
//
//	s, err := schedule.Parse(schedule.Spec{Cron: "30 2 * * MON-FRI", Timezone: "Europe/Berlin"})
//	next, ok := s.Next(anchor, time.Time{}) // ok is false when it never fires again
//
// # Words
//
// A nominal time is an instant at which the schedule fires, also when no
// process runs at that instant. The anchor is the instant at which the ticker
// was created or its schedule last changed; all nominal times are after it.
// All results are in UTC and carry no monotonic reading.
//
// # Periods
//
// The nominal times are anchor + k·period for k = 1, 2, 3 … They follow from
// the anchor and never from the time of a check, so they do not drift. A
// period is elapsed time: the time zone does not affect it. Periods and anchors
// are whole microseconds, because PostgreSQL stores these: a nominal time that
// the storage rounded could fire twice.
//
// # Cron
//
// Five fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12 or
// JAN-DEC), day of week (0-7 or SUN-SAT, 0 and 7 are Sunday). A field is a list
// of elements separated by commas; an element is *, a value, a range a-b, or
// one of * and a-b followed by a step /n. Case does not matter in names. A
// range of weekdays may end on Sunday in any spelling (FRI-SUN, 5-7, 5-0); no
// other range wraps around. A step must be smaller than the number of values of
// the field. So Parse refuses "*/60", which does not mean "every 60 minutes".
// @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually stand for
// the usual expressions.
//
// A field is starred when one of its elements is * or */n. Only this
// distinction depends on the spelling of a field and not on its values
// ("0-23" is 24 fixed hours, "*" is any hour). Two rules depend on it:
//
//   - Days. When neither day field is starred, a day matches if either of them
//     does ("0 0 13 * FRI" is every 13th and every Friday). When one is starred,
//     both must match ("0 0 */2 * MON" is the Mondays with an odd date).
//     crontab(5) has the same rule.
//   - Clock changes, see below.
//
// Parse refuses an expression that matches no day of any year, such as 30
// February. Every other one fires within 40 years. The longest wait is for 29
// February on a given weekday, across a century without a leap year, such as
// 2100. Next searches 50 years ahead and then gives up, which bounds its cost.
//
// # Clock changes
//
// A schedule with an unstarred hour field names fixed local times, whatever its
// minute field is. Each local date and time fires once: at the first instant at
// which the local clock shows it or a later time. A time in the gap of a change
// to summer time fires at the first instant after the gap. A time that exists
// twice fires the first time only. A day that a zone skipped (Pacific/Apia had
// no 30 December 2011) fires at the start of the next day. Several local times
// in one gap share one instant and so make one fire.
//
// A schedule with a starred hour field follows real time: it fires whenever the
// local clock shows a matching time, in both passes of a repeated hour and never
// in a gap. "*/30 * * * *" fires 50 times on the day of 25 hours and 46 times on
// that of 23. The minute field does not decide: an expression that names an hour
// means that hour of the day. So "*/15 2 * * *" fires once on the night without
// an hour 2 and four times on the night with two of them.
//
// # Misfires
//
// [Schedule.Due] decides which of the past nominal times fire now. It computes
// backwards from now, so its cost depends on the number of fires it returns and
// not on the time since the last call.
//
// # Time zones
//
// Zone rules come from the host's database, or from the copy that a program
// links in by importing time/tzdata. This package does not import it, as that
// would add 450 kB to every program that only uses the client. Programs for
// hosts without a zone database (the apps, images from scratch) import it
// themselves. Only "" and "UTC" work with neither. Two processes with different
// versions of the database may disagree about a future nominal time. The unique
// key on a tick's nominal time limits the damage to one early or late tick.
//
// The API of this package is stable.
package schedule
