// Package schedule says when something is to be done, as crontab(5) does.
package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Schedule says when something is to be done: five fields as in crontab(5), minute, hour, day of the month, month and day
// of the week, or one of the names @hourly, @daily, @weekly and @monthly. The zero Schedule is never.
type Schedule struct {
	minute, hour, day, month, weekday uint64 // bit n: at n
	anyDay, anyWeekday                bool   // they are *: when neither is, either will do
}

// expand returns the five fields that a name stands for.
func expand(text string) string {
	switch text {
	case "@hourly":
		return "0 * * * *"
	case "@daily", "@midnight":
		return "0 0 * * *"
	case "@weekly":
		return "0 0 * * 0"
	case "@monthly":
		return "0 0 1 * *"
	}
	return text
}

// Parse reads a schedule. One that never comes, such as the 30th of February, is an error.
func Parse(text string) (Schedule, error) {
	fields := strings.Fields(expand(strings.TrimSpace(text)))
	if len(fields) != 5 {
		return Schedule{}, errors.New("a schedule has five fields such as 30 3 * * *: minute, hour, day, month, day of the week")
	}
	var s Schedule
	for i, field := range []struct {
		name        string
		least, most int
		names       string
		bits        *uint64
	}{
		{"minute", 0, 59, "", &s.minute},
		{"hour", 0, 23, "", &s.hour},
		{"day of the month", 1, 31, "", &s.day},
		{"month", 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec", &s.month},
		{"day of the week", 0, 7, "sun mon tue wed thu fri sat", &s.weekday},
	} {
		for part := range strings.SplitSeq(fields[i], ",") {
			bits, err := parseRange(part, field.least, field.most, field.names)
			if err != nil {
				return Schedule{}, fmt.Errorf("the %s %q: %w", field.name, part, err)
			}
			*field.bits |= bits
		}
	}
	s.weekday |= s.weekday >> 7 & 1 // 7 is Sunday too
	s.anyDay, s.anyWeekday = strings.HasPrefix(fields[2], "*"), strings.HasPrefix(fields[4], "*")
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, errors.New("it never comes")
	}
	return s, nil
}

// parseRange reads *, a number, or a range, with or without a step behind a slash.
func parseRange(part string, least, most int, names string) (bits uint64, err error) {
	part, step, stepped := strings.Cut(part, "/")
	by := 1
	if stepped {
		if by, err = strconv.Atoi(step); err != nil || by < 1 || by > most {
			return 0, fmt.Errorf("the step must be a number from 1 to %d", most)
		}
	}
	from, to := least, most
	if part != "*" {
		first, last, isRange := strings.Cut(part, "-")
		if from, err = parseField(first, least, most, names); err != nil {
			return 0, err
		}
		switch {
		case isRange:
			if to, err = parseField(last, least, most, names); err != nil {
				return 0, err
			}
		case !stepped:
			to = from
		}
	}
	if from > to {
		return 0, errors.New("the range ends before it begins")
	}
	for n := from; n <= to; n += by {
		bits |= 1 << n
	}
	return bits, nil
}

func parseField(text string, least, most int, names string) (int, error) {
	for i, name := range strings.Fields(names) {
		if strings.EqualFold(text, name) {
			return i + least, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most || text[0] == '+' || text[0] == '-' {
		return 0, fmt.Errorf("it must be from %d to %d", least, most)
	}
	return n, nil
}

// Next returns the first time of s after another, in the time zone of that; the zero time when there is none in eight years.
// A time that a change to summer time leaves out does not come on that day.
func (s Schedule) Next(after time.Time) time.Time {
	year, month, day := after.Date()
	for n := range 8*366 + 1 {
		date := time.Date(year, month, day+n, 12, 0, 0, 0, after.Location())
		if !s.onDay(date) {
			continue
		}
		for hour := range 24 {
			for minute := range 60 {
				if s.hour&(1<<hour) == 0 || s.minute&(1<<minute) == 0 {
					continue
				}
				t := time.Date(date.Year(), date.Month(), date.Day(), hour, minute, 0, 0, after.Location())
				if t.After(after) && t.Hour() == hour {
					return t
				}
			}
		}
	}
	return time.Time{}
}

func (s Schedule) onDay(t time.Time) bool {
	day, weekday := s.day&(1<<t.Day()) != 0, s.weekday&(1<<t.Weekday()) != 0
	if !s.anyDay && !s.anyWeekday {
		day = day || weekday
	} else {
		day = day && weekday
	}
	return day && s.month&(1<<t.Month()) != 0
}
