package schedule

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	for _, row := range []struct{ text, after, next string }{
		{"30 3 * * *", "2026-11-21T03:29", "2026-11-21T03:30"},
		{"30 3 * * *", "2026-11-21T03:30", "2026-11-22T03:30"},
		{"*/20 * * * *", "2026-12-31T23:41", "2027-01-01T00:00"},
		{"5-10/5,50 8-9 * * *", "2026-11-21T08:06", "2026-11-21T08:10"},
		{"0 0 29 feb *", "2026-11-21T00:00", "2028-02-29T00:00"},
		{"0 0 * * 7", "2026-11-21T00:00", "2026-11-22T00:00"},
		{"0 0 * * Mon-Fri", "2026-11-21T00:00", "2026-11-23T00:00"},
		{"0 0 1 * mon", "2026-11-21T00:00", "2026-11-23T00:00"}, // either, as in crontab
		{"0 0 1 * mon", "2026-11-30T00:00", "2026-12-01T00:00"},
		{"0 0 */2 * sun", "2026-11-21T00:00", "2026-11-29T00:00"},
		{" @daily ", "2026-11-21T10:00", "2026-11-22T00:00"},
		{"@weekly", "2026-11-21T10:00", "2026-11-22T00:00"},
	} {
		const layout = "2006-01-02T15:04"
		s, err := Parse(row.text)
		after, _ := time.Parse(layout, row.after)
		if got := s.Next(after).Format(layout); err != nil || got != row.next {
			t.Errorf("%q after %s is %s, want %s, %v", row.text, row.after, got, row.next, err)
		}
	}
	for _, text := range []string{"", "daily", "@never", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *",
		"* * * * 8", "5-1 * * * *", "*/0 * * * *", "*/x * * * *", "1-2-3 * * * *", "-1 * * * *", "+1 * * * *", "0 0 30 2 *", "1,, * * * *"} {
		if s, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %+v", text, s)
		}
	}
}

func TestScheduleAcrossSummerTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("this machine has no time zones") // the code has nothing of its own about zones
	}
	s, err := Parse("30 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Next(time.Date(2026, 3, 29, 0, 0, 0, 0, berlin)); got.Day() != 30 {
		t.Errorf("a time that does not exist comes at %v", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"*/5 1-3,7 * jan-mar 1", "@daily", "0 0 31 2 *", "60 * * * *"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		after := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		if err == nil && !s.Next(after).After(after) {
			t.Errorf("%q never comes", text)
		}
	})
}
