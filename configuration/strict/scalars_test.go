package strict

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "10MiB": 10 << 20, "4MB": 4e6, "4 mb": 4e6, "1TiB": 1 << 40, "512B": 512, "7kib": 7 << 10, "-1": -1,
	} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("parseSize(%q) = %d, %v", text, int64(got), err)
		}
	}
	for _, text := range []string{"", "MiB", "1.5GiB", "1XiB", "9223372036854775807KB", "0x10", "1 0", "1_000", "9e9MB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d", text, got)
		}
	}
	for size, want := range map[Size]string{0: "0", 1023: "1023", 1 << 20: "1MiB", 1500: "1500", 3000: "3KB", 4e6: "4MB"} {
		if size.String() != want {
			t.Errorf("%d is written %s, want %s", int64(size), size, want)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10s": 10 * time.Second, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "168h": 168 * time.Hour, "1000": 1000,
		"1h30m": 90 * time.Minute, "0": 0,
	} {
		got, err := parseDuration(text)
		if got != want || err != nil {
			t.Errorf("parseDuration(%q) = %v, %v", text, got, err)
		}
		if back, err := parseDuration(FormatDuration(got)); back != got || err != nil {
			t.Errorf("%q is written %q", text, FormatDuration(got))
		}
	}
	for _, text := range []string{"", "d", "1dd", "1.5d", "-1d", "9999999d", "106751d24h", "1w", "99999999999999999999"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("parseDuration(%q) = %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{24 * time.Hour: "24h", 90 * time.Second: "1m30s", time.Minute: "1m",
		time.Hour + time.Second: "1h0m1s", 10 * time.Second: "10s", 0: "0s"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	type holder struct {
		Public  Secret
		private Secret
	}
	h := holder{NewSecret("hush"), NewSecret("hush")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{h, &h, h.Public, &h.Public, []Secret{h.private}} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, "hush") || strings.Contains(got, "68757368") {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
	if out, err := json.Marshal(h); err != nil || string(out) != `{"Public":"***"}` {
		t.Errorf("as JSON: %s, %v", out, err)
	}
	if h.Public.Reveal() != "hush" || (Secret{}).Reveal() != "" || (Secret{}).String() != "" || NewSecret("") != (Secret{}) {
		t.Error("Reveal does not return the text")
	}
}
