package schedule

import (
	"strings"
)

// field describes one field of a cron expression: its name in messages, the
// allowed values, and names for values. The first name stands for min.
type field struct {
	name     string
	min, max int
	names    []string
}

var (
	minuteField = field{name: "minute", min: 0, max: 59}
	hourField   = field{name: "hour", min: 0, max: 23}
	domField    = field{name: "day of month", min: 1, max: 31}
	monthField  = field{name: "month", min: 1, max: 12, names: []string{
		"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
	}}
	// max is 6 and not 7: element and value read the second Sunday, so that
	// * and */n count seven days and not eight.
	dowField = field{name: "day of week", min: 0, max: 6, names: []string{
		"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT",
	}}
)

// isDayOfWeek reports whether the field is the day of week, in which Sunday has two numbers.
func (f field) isDayOfWeek() bool { return f.max == 6 }

// describeAllowed describes the allowed values, for messages.
func (f field) describeAllowed() string {
	switch {
	case f.isDayOfWeek():
		return "0 to 7 (0 and 7 are Sunday) or SUN to SAT"
	case f.names != nil:
		return "1 to 12 or JAN to DEC"
	default:
		return formatNumber(f.min) + " to " + formatNumber(f.max)
	}
}

// parseField reads a field into a set (bit v for the value v). It reports whether one
// of the elements is starred.
func (f field) parseField(text string) (set uint64, starred bool, err error) {
	for element := range strings.SplitSeq(text, ",") {
		values, star, err := f.parseElement(element)
		if err != nil {
			return 0, false, err
		}
		set |= values
		starred = starred || star
	}
	return set, starred, nil
}

// parseElement reads one element of a list: * */n a a-b a-b/n.
func (f field) parseElement(text string) (set uint64, star bool, err error) {
	if text == "" {
		return 0, false, f.invalidElement(text, "must be a list of values, got an empty element; leave the comma out")
	}

	base, stepText, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		var ok bool
		most := f.max - f.min
		if step, ok = parseNumber(stepText); !ok || step < 1 || step > most {
			return 0, false, f.invalidElement(text, "a step must be a number from 1 to %d, got %.64q", most, stepText)
		}
	}

	lo, hi := f.min, f.max
	first, _, ranged := strings.Cut(base, "-")
	switch {
	case base == "*":
		star = true
	case !ranged && stepped:
		return 0, false, f.invalidElement(text, "must have its step behind * or a range, got a step behind a value; for steps from a value on write %s-%d/%s", first, f.max, stepText)
	default:
		if lo, hi, err = f.parseRange(text, base); err != nil {
			return 0, false, err
		}
	}

	for v := lo; v <= hi; v += step {
		if f.isDayOfWeek() && v == 7 {
			set |= 1
		} else {
			set |= 1 << v
		}
	}
	return set, star, nil
}

// parseRange reads a value or a range of two. element is the whole element, for messages.
func (f field) parseRange(element, text string) (lo, hi int, err error) {
	first, last, ranged := strings.Cut(text, "-")
	if lo, err = f.parseValue(element, first); err != nil || !ranged {
		return lo, lo, err
	}
	if hi, err = f.parseValue(element, last); err != nil {
		return 0, 0, err
	}

	if f.isDayOfWeek() && hi == 0 && lo > 0 {
		hi = 7 // a range of weekdays may end on Sunday: FRI-SUN
	}
	if lo > hi {
		return 0, 0, f.invalidElement(element, "must be a range that goes upwards, got one that goes downwards; for one around the end write two, separated by a comma")
	}
	return lo, hi, nil
}

// parseValue reads a number or a name. element is the whole element, for messages.
func (f field) parseValue(element, text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(name, text) {
			return f.min + i, nil
		}
	}

	n, ok := parseNumber(text)
	if !ok {
		if text == "" {
			text = element // "-5" and "5-" have an empty value: show the element
		}
		return 0, f.invalidElement(element, "must be %s, got %.64q", f.describeAllowed(), text)
	}

	most := f.max
	if f.isDayOfWeek() {
		most = 7
	}
	if n < f.min || n > most {
		return 0, f.invalidElement(element, "must be %s, got %.64s", f.describeAllowed(), text)
	}
	return n, nil
}

// invalidElement formats a message about one element of the field.
func (f field) invalidElement(element, format string, args ...any) error {
	return invalidSpec(FieldCron, "%s field, %q: "+format, append([]any{f.name, element}, args...)...)
}

// parseNumber reads decimal digits. It returns 9999 for any larger number, which is
// out of the range of every field too.
func parseNumber(text string) (int, bool) {
	if text == "" {
		return 0, false
	}
	n := 0
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), 9999)
	}
	return n, true
}
