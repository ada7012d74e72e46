package policy

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Hours are a span of the day on some days of the week, in minutes since
// midnight. One that ends at or before its beginning ends on the next day.
type Hours struct {
	Days     [7]bool // by time.Weekday, of its beginning
	From, To int     // 0 to 1440
}

var errHours = errors.New(`want days and hours such as "mon-fri 18:00-08:00" or "sat 00:00-24:00"`)

// ParseHours reads "DAY HH:MM-HH:MM" or "DAY-DAY HH:MM-HH:MM", where a day is
// the first three letters of its English name.
func ParseHours(s string) (h Hours, err error) {
	days, hours, ok := strings.Cut(s, " ")
	if !ok {
		return h, errHours
	}
	first, last, many := strings.Cut(days, "-")
	if !many {
		last = first
	}
	d, end := weekday(first), weekday(last)
	if d < 0 || end < 0 {
		return h, errHours
	}
	for ; d != end; d = (d + 1) % 7 {
		h.Days[d] = true
	}
	h.Days[end] = true
	from, to, _ := strings.Cut(hours, "-")
	var okFrom, okTo bool
	h.From, okFrom = minutes(from)
	h.To, okTo = minutes(to)
	if !okFrom || !okTo || h.From == 24*60 {
		return h, errHours
	}
	return h, nil
}

func weekday(s string) int {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(s, d.String()[:3]) {
			return int(d)
		}
	}
	return -1
}

// minutes reads HH:MM from 00:00 to 24:00.
func minutes(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	h, errH := strconv.ParseUint(s[:2], 10, 8)
	m, errM := strconv.ParseUint(s[3:], 10, 8)
	n := int(h*60 + m)
	return n, errH == nil && errM == nil && m < 60 && n <= 24*60
}

// within says whether now is in one of the spans, and if not, when the next
// begins; zero if none ever does.
func within(hours []Hours, now time.Time) (in bool, next time.Time) {
	if len(hours) == 0 {
		return true, next
	}
	minute := now.Hour()*60 + now.Minute()
	today, yesterday := now.Weekday(), (now.Weekday()+6)%7
	for _, h := range hours {
		over := h.To <= h.From
		if h.Days[today] && minute >= h.From && (over || minute < h.To) || over && h.Days[yesterday] && minute < h.To {
			return true, time.Time{}
		}
		for ahead := range 8 {
			at := time.Date(now.Year(), now.Month(), now.Day()+ahead, 0, h.From, 0, 0, now.Location())
			if h.Days[at.Weekday()] && at.After(now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return false, next
}
