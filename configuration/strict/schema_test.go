package strict

import (
	"fmt"
	"strings"
	"testing"
)

// TestNearestStopsEarly: what is left out of the reckoning is never the nearest.
func TestNearestStopsEarly(t *testing.T) {
	words := []string{"", "log", "level", "log.level", "storage.delete.enabled", "storage.redirect.disable", "x", strings.Repeat("x", 200)}
	for i := range 64 {
		words = append(words, fmt.Sprintf("%b.%o", i*7, i*i))
	}
	for _, written := range append(words, "levle", "storage.delete.enable", "http", strings.Repeat("y", 300)) {
		want, least := "", 1000
		for _, c := range words {
			if d := distance(written, c, 1000); d < least {
				want, least = c, d
			}
		}
		if got := Nearest(written, words); got != want {
			t.Errorf("the nearest of %q is %q, want %q", written, got, want)
		}
	}
	for written, want := range map[string]string{"lgo": "log", "levle": "level", "storage.del": "storage.delete.enabled", "lo": "log"} {
		if got := Nearest(written, []string{"gc", "log", "level", "log.level", "storage.tag", "storage.delete.enabled"}); got != want {
			t.Errorf("the nearest of %q is %q, want %q", written, got, want)
		}
	}
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"level", "levle", 1}, {"abcd", "badc", 2}} {
		if got := distance(test.a, test.b, 1000); got != test.want {
			t.Errorf("%q and %q are %d apart, want %d", test.a, test.b, got, test.want)
		}
	}
}
