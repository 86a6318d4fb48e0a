package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/registry"
)

func TestJudgeRange(t *testing.T) {
	for _, test := range []struct {
		header string
		size   int64
		want   rangeVerdict
		bytes  int64
	}{
		{"bytes=0-0", 10, rangeServe, 1},
		{"bytes=5-", 10, rangeServe, 5},
		{"bytes=-3", 10, rangeServe, 3},
		{"bytes=-30", 10, rangeServe, 10},
		{"bytes=8-99", 10, rangeServe, 2},
		{"bytes=0-1, 4-5", 10, rangeServe, 4},
		{"bytes=0-1,99-", 10, rangeServe, 2},
		{"bytes=3-9223372036854775807", 10, rangeServe, 7},
		{"bytes=10-", 10, rangeUnsatisfiable, 0},
		{"bytes=-0", 10, rangeUnsatisfiable, 0},
		{"bytes=5-4", 10, rangeUnsatisfiable, 0},
		{"bytes=a-b", 10, rangeUnsatisfiable, 0},
		{"bytes=+1-2", 10, rangeUnsatisfiable, 0},
		{"bytes=", 10, rangeUnsatisfiable, 0},
		{"bytes=1", 10, rangeUnsatisfiable, 0},
		{"bytes=-", 10, rangeUnsatisfiable, 0},
		{"bytes=0-1,x", 10, rangeUnsatisfiable, 0},
		{"bytes=0-99999999999999999999", 10, rangeUnsatisfiable, 0},
		{"nonsense", 10, rangeUnsatisfiable, 0},
		{"lines=1-2", 10, rangeIgnore, 0},
		{"bytes=0-", 0, rangeIgnore, 0},
		{"bytes=0-5,4-9", 10, rangeIgnore, 0},
		{"bytes=" + strings.Repeat("0-0,", maxRanges-1) + "0-0", 1 << 20, rangeServe, maxRanges},
		{"bytes=" + strings.Repeat("0-0,", maxRanges), 1 << 20, rangeIgnore, 0},
	} {
		if got, _, bytes := judgeRange(test.header, test.size); got != test.want || bytes != test.bytes {
			t.Errorf("judgeRange(%q, %d) is %d with %d bytes, want %d with %d", test.header, test.size, got, bytes, test.want, test.bytes)
		}
	}
}

func TestParseContentRange(t *testing.T) {
	for _, test := range []struct {
		header     string
		start, end int64
		ok         bool
	}{
		{"", -1, -1, true},
		{"0-0", 0, 0, true},
		{"5-9", 5, 9, true},
		{"bytes 5-9/*", 5, 9, true},
		{"bytes 5-9/100", 5, 9, true},
		{"9-5", 0, 0, false},
		{"5-", 0, 0, false},
		{"-5", 0, 0, false},
		{"5", 0, 0, false},
		{"a-b", 0, 0, false},
		{"5-9/100", 0, 0, false},
		{"bytes=5-9", 0, 0, false},
		{"0-9223372036854775808", 0, 0, false},
	} {
		start, end, err := parseContentRange(test.header)
		if (err == nil) != test.ok || start != test.start || end != test.end {
			t.Errorf("parseContentRange(%q) is %d, %d, %v", test.header, start, end, err)
		}
	}
}

// FuzzRange wants what is judged well-formed to be served by http.ServeContent, from there and as much, and what is
// written plainly to be judged so.
func FuzzRange(f *testing.F) {
	for _, header := range []string{"bytes=0-0", "bytes=5-", "bytes=-3", "bytes=0-1, 4-5", "bytes=3-9223372036854775807", "bytes=-0", "bytes=,",
		"bytes=5-4", "bytes=0-1,x", "bytes= 0-1", "bytes=0-0,-1", "lines=1-2", "bytes=10-", "bytes=-99,-99", "bytes=-0,-1", "bytes=0-1,\u00a02-3", "x"} {
		f.Add(header, uint8(10))
		f.Add(header, uint8(0))
	}
	plain := regexp.MustCompile(`\Abytes=(\d{1,3})-(\d{1,3})\z`)
	f.Fuzz(func(t *testing.T, header string, size uint8) {
		verdict, spans, n := judgeRange(header, int64(size))
		if m := plain.FindStringSubmatch(header); m != nil && size > 0 {
			first, _ := strconv.Atoi(m[1]) // digits, as the expression says
			last, _ := strconv.Atoi(m[2])
			if want := first <= last && first < int(size); want != (verdict == rangeServe) {
				t.Fatalf("%q of %d bytes is judged %d", header, size, verdict)
			}
		}
		if verdict != rangeServe {
			return
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Range"] = []string{header}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(strings.Repeat("x", int(size))))
		var want []string
		for _, s := range spans {
			want = append(want, "bytes "+itoa(s.From)+"-"+itoa(s.From+s.N-1)+"/"+itoa(int64(size)))
			n -= s.N
		}
		got := w.Header()["Content-Range"]
		for line := range strings.Lines(w.Body.String()) { // of several parts
			var first, last int64
			if n, _ := fmt.Sscanf(line, "Content-Range: bytes %d-%d", &first, &last); n == 2 && first <= last { // "-0" is a part without bytes
				got = append(got, strings.TrimSpace(strings.TrimPrefix(line, "Content-Range: ")))
			}
		}
		if w.Code != http.StatusPartialContent || n != 0 || !slices.Equal(got, want) {
			t.Fatalf("%q of %d bytes: wanted %q, and served were %d %q", header, size, want, w.Code, got)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	for _, header := range []string{"", "0-5", "bytes 0-5/6", "bytes 0-5/*", "5-0", "-5", "5-", "0-9223372036854775808", "bytes=0-5", "+0-5", " 0-5"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if start, end, err := parseContentRange(header); err == nil && header != "" && (start < 0 || end < start) {
			t.Fatalf("%q is %d to %d", header, start, end)
		}
	})
}

func TestMatches(t *testing.T) {
	d, err := registry.ParseDigest(testDigest)
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{
		`"` + testDigest + `"`: true, testDigest: true, `W/"` + testDigest + `"`: true, "*": true,
		`"x", "` + testDigest + `"`: true, `"x"`: false, "": false, testSHA512: false,
	} {
		if got := matches([]string{header}, d); got != want {
			t.Errorf("matches(%s) is %t", header, got)
		}
	}
}
