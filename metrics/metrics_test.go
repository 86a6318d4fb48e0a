package metrics

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

var update = flag.Bool("update", false, "write testdata/families.golden anew")

// gather returns what is exported, by name.
func gather(t testing.TB, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// sample finds the member of a family with exactly these labels, "name=value" each.
func sample(t testing.TB, m *Metrics, name string, labels ...string) *dto.Metric {
	t.Helper()
	for _, one := range gather(t, m)[name].GetMetric() {
		var have []string
		for _, l := range one.GetLabel() {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		if slices.Equal(have, labels) {
			return one
		}
	}
	t.Fatalf("there is no %s%v", name, labels)
	return nil
}

// everything makes metrics that have a sample of every family.
func everything(t testing.TB) *Metrics {
	m := New(Options{Version: "v1.2.3", Commit: "abc"})
	m.WatchCertificates(func() time.Time { return time.Unix(1_900_000_000, 0) })
	m.WatchDisk(func() (free, total uint64, err error) { return 1 << 40, 1 << 41, nil })
	m.WatchHealth(func() bool { return true })("storage", true)
	m.WatchConnections(func() int { return 5 })
	waited := m.WatchQueues([]string{"read", "write"}, []string{"queue_full"}, func() Queues {
		return Queues{Running: []int{1, 2}, Waiting: []int{3, 4}, Admitted: []uint64{5, 6}, Rejected: []uint64{7}}
	})
	waited(1, 30*time.Millisecond)
	for route := range routes {
		for _, byTag := range []bool{false, true} {
			m.Served(Request{Method: "GET", Status: 200, Route: route, ByTag: byTag})
		}
	}
	for c := range storeCalls {
		m.StoreCalled(c, time.Second, NoError)
	}
	return m
}

// TestFamilies holds the names, types, labels and help of all that is exported to a file: others build on them.
func TestFamilies(t *testing.T) {
	var lines []string
	for name, f := range gather(t, everything(t)) {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue // of client_golang, and of the system
		}
		values := map[string][]string{}
		var labels []string
		for _, one := range f.GetMetric() {
			for _, l := range one.GetLabel() {
				if _, ok := values[l.GetName()]; !ok {
					labels = append(labels, l.GetName())
				}
				if !slices.Contains(values[l.GetName()], l.GetValue()) {
					values[l.GetName()] = append(values[l.GetName()], l.GetValue())
				}
			}
		}
		slices.Sort(labels)
		line := fmt.Sprintf("%s %s\n  %s\n", name, strings.ToLower(f.GetType().String()), f.GetHelp())
		for _, label := range slices.Compact(labels) {
			slices.Sort(values[label])
			line += fmt.Sprintf("  %s: %s\n", label, strings.Join(values[label], " "))
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, cmp.Compare)
	got := strings.Join(lines, "")
	const file = "testdata/families.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("what is exported differs from %s (-update writes it anew):\n%s", file, got)
	}
}

func TestFigures(t *testing.T) {
	m := New(Options{Version: "v1.2.3"})
	for _, took := range []time.Duration{1500 * time.Microsecond, 2500 * time.Microsecond, 2 * time.Second} {
		m.Enter(ManifestGet)
		m.Served(Request{Method: "GET", Status: 200, Took: took, Received: 0, Sent: 1001, Route: ManifestGet, ByTag: true,
			Outcome: Authenticated, Entered: true})
	}
	m.Enter(UploadChunk)
	m.Served(Request{Method: "PATCH", Status: 507, Took: time.Millisecond, Received: 1<<40 + 1, Sent: 9, Route: UploadClose, Outcome: Anonymous})
	for _, want := range []struct {
		name   string
		labels []string
		value  float64 // of a counter or gauge; of others, their sum
		count  uint64
	}{
		{"imageregistry_build_info", []string{"gitCommit=", "gitVersion=v1.2.3", "major=1", "minor=2"}, 1, 0},
		{"imageregistry_http_requests_total", []string{"code=200", "method=get"}, 3, 0},
		{"imageregistry_http_requests_total", []string{"code=507", "method=patch"}, 1, 0},
		{"imageregistry_http_request_duration_seconds", []string{"method=get"}, 2.004, 3},
		{"imageregistry_http_request_size_bytes", nil, 1<<40 + 1, 4},
		{"imageregistry_http_response_size_bytes", nil, 3012, 4},
		{"imageregistry_http_in_flight_requests", nil, 1, 0},
		{"imageregistry_request_duration_seconds", []string{"operation=ManifestService.Get"}, 2.004, 3},
		{"imageregistry_request_duration_seconds", []string{"operation=TagService.Get"}, 2.004, 3},
		{"imageregistry_request_duration_seconds", []string{"operation=BlobWriter.Commit"}, .001, 1},
		{"berth_http_requests_total", []string{"route=manifest_get", "status=2xx"}, 3, 0},
		{"berth_http_requests_total", []string{"route=upload_close", "status=5xx"}, 1, 0},
		{"berth_http_request_duration_seconds", []string{"route=manifest_get"}, 2.004, 3},
		{"berth_http_sent_bytes_total", []string{"route=manifest_get"}, 3003, 0},
		{"berth_http_received_bytes_total", []string{"route=upload_close"}, 1<<40 + 1, 0},
		{"berth_http_in_flight_requests", []string{"route=upload_chunk"}, 1, 0},
		{"berth_http_in_flight_requests", []string{"route=manifest_get"}, 0, 0},
		{"berth_uploads_in_progress", nil, 1, 0},
		{"berth_auth_requests_total", []string{"outcome=authenticated"}, 3, 0},
	} {
		one := sample(t, m, want.name, want.labels...)
		value := one.GetCounter().GetValue() + one.GetGauge().GetValue() + one.GetSummary().GetSampleSum() + one.GetHistogram().GetSampleSum()
		count := one.GetSummary().GetSampleCount() + one.GetHistogram().GetSampleCount()
		if math.Abs(value-want.value) > 1e-12 || count != want.count {
			t.Errorf("%s%v is %v, %d times; want %v, %d times", want.name, want.labels, value, count, want.value, want.count)
		}
	}
	if h := sample(t, m, "berth_http_request_duration_seconds", "route=manifest_get").GetHistogram(); h.GetZeroThreshold() == 0 || len(h.GetPositiveSpan()) == 0 {
		t.Error("there are no native buckets")
	}
}

// TestHistogramForgetsNothing fills more buckets than are kept.
func TestHistogramForgetsNothing(t *testing.T) {
	m := New(Options{})
	took := time.Nanosecond
	for range 500 {
		m.Served(Request{Method: "GET", Status: 200, Took: took})
		took += took/10 + 1
	}
	h := sample(t, m, "berth_http_request_duration_seconds", "route=other").GetHistogram()
	if h.GetSampleCount() != 500 || h.GetBucket()[0].GetCumulativeCount() == 0 {
		t.Errorf("of 500 requests, %d are known", h.GetSampleCount())
	}
}

func TestStore(t *testing.T) {
	m := New(Options{})
	m.StoreCalled(ReadData, 3*time.Millisecond, NoError)
	m.StoreCalled(WriteRecord, time.Second, NoSpace)
	m.StoreCalled(WriteRecord, time.Second, ReadOnlyFilesystem)
	m.LookedUp(BlobRecord, true)
	m.LookedUp(LinkRecord, false)
	m.LookedUp(ManifestRecord, false)
	m.LookedUp(TagRecord, true)
	for _, want := range []struct {
		name   string
		labels []string
		value  float64
	}{
		{"imageregistry_storage_duration_seconds", []string{"operation=StorageDriver.Reader"}, .003},
		{"imageregistry_storage_errors_total", []string{"code=DEVICE_OUT_OF_SPACE", "operation=StorageDriver.PutContent"}, 1},
		{"imageregistry_storage_errors_total", []string{"code=READ_ONLY_FILESYSTEM", "operation=StorageDriver.PutContent"}, 1},
		{"imageregistry_storage_errors_total", []string{"code=PATH_NOT_FOUND", "operation=StorageDriver.Stat"}, 0},
		{"imageregistry_digest_cache_requests_total", []string{"type=Hit"}, 1},
		{"imageregistry_digest_cache_requests_total", []string{"type=Miss"}, 0},
		{"imageregistry_digest_cache_scoped_requests_total", []string{"type=Miss"}, 2},
		{"berth_storage_errors_total", []string{"call=write_record", "error=no_space"}, 1},
		{"berth_cache_requests_total", []string{"record=tag", "result=hit"}, 1},
	} {
		one := sample(t, m, want.name, want.labels...)
		if got := one.GetCounter().GetValue() + one.GetSummary().GetSampleSum(); got != want.value {
			t.Errorf("%s%v is %v, want %v", want.name, want.labels, got, want.value)
		}
	}
}

func TestGauges(t *testing.T) {
	now := time.Unix(1000, 0)
	m := New(Options{Now: func() time.Time { return now }})
	full := errors.New("no answer")
	m.WatchDisk(func() (free, total uint64, err error) { return 5, 10, full })
	if _, shown := gather(t, m)["berth_storage_free_bytes"]; shown {
		t.Error("the free space is shown though it is not known")
	}
	full = nil
	if got := sample(t, m, "berth_storage_free_bytes").GetGauge().GetValue(); got != 5 {
		t.Errorf("the free space is %v", got)
	}
	now = now.Add(time.Minute)
	m.Reloaded(Users, "a file", errors.New("bad"))
	m.Reloaded(Groups, "a file", nil)
	m.Reloaded(Certificates, "a pair", errors.New("bad"))
	m.Reloaded(Certificates, "another", nil)
	m.Reloaded(Keys, "an issuer", errors.New("bad"))
	m.Reloaded(Keys, "an issuer", nil)
	for _, want := range []struct {
		name, what string
		value      float64
	}{
		{"berth_last_reload_successful", "certificates", 0}, {"berth_last_reload_successful", "keys", 1},
		{"berth_last_reload_successful", "users", 0}, {"berth_last_reload_successful", "groups", 1},
		{"berth_last_reload_success_timestamp_seconds", "users", 1000}, {"berth_last_reload_success_timestamp_seconds", "groups", 1060},
	} {
		if got := sample(t, m, want.name, "what="+want.what).GetGauge().GetValue(); got != want.value {
			t.Errorf("%s of %s is %v, want %v", want.name, want.what, got, want.value)
		}
	}
	if got := sample(t, m, "berth_reloads_total", "result=failure", "what=users").GetCounter().GetValue(); got != 1 {
		t.Errorf("%v reloads failed", got)
	}
}

func TestQueues(t *testing.T) {
	m := everything(t)
	for name, want := range map[string]float64{
		"berth_queue_running": 2, "berth_queue_length": 4, "berth_queue_admitted_total": 6, "berth_queue_wait_seconds": .03,
	} {
		one := sample(t, m, name, "class=write")
		if got := one.GetGauge().GetValue() + one.GetCounter().GetValue() + one.GetHistogram().GetSampleSum(); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := sample(t, m, "berth_requests_rejected_total", "reason=queue_full").GetCounter().GetValue(); got != 7 {
		t.Errorf("%v requests were rejected", got)
	}
}

// TestNoLabelGrows sends what hostile clients would, and counts.
func TestNoLabelGrows(t *testing.T) {
	m := everything(t)
	count := func() (n int) {
		for name, f := range gather(t, m) {
			if !strings.HasPrefix(name, "go_") { // of runtime.MemStats and the like
				n += len(f.GetMetric())
			}
		}
		return n
	}
	m.Served(Request{Method: "BREW", Status: 405})
	m.Served(Request{Method: "GET", Status: 404})
	before := count()
	for i := range 1000 {
		m.Served(Request{Method: fmt.Sprintf("BREW%d", i), Status: 405})
		m.Served(Request{Method: "get\n{}\"\xff", Status: 405})
		m.Served(Request{Method: "GET", Status: 404, Route: Other})
	}
	m.Served(Request{Method: "get", Status: 405}) // methods are case-sensitive: this is another one
	if after := count(); after != before {
		t.Errorf("there were %d samples, and now %d", before, after)
	}
}

func TestStatuses(t *testing.T) {
	m := New(Options{})
	for _, status := range []int{-1, 0, 99, 100, 599, 600, 1 << 30} {
		m.Served(Request{Method: "GET", Status: status})
	}
	if got := len(gather(t, m)["imageregistry_http_requests_total"].GetMetric()); got != 2 {
		t.Errorf("%d statuses are told apart, want 100 and 599", got)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for route := range routes {
		if name := route.String(); name == "" || seen[name] {
			t.Errorf("the route %d is called %q", route, name)
		}
		seen[route.String()] = true
	}
}

func TestHandler(t *testing.T) {
	answer := httptest.NewRecorder()
	everything(t).Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		"# TYPE imageregistry_http_request_duration_seconds summary\n", "imageregistry_http_request_duration_seconds{method=\"get\",quantile=\"0.99\"}",
		"berth_http_request_duration_seconds_bucket{route=\"blob_get\",le=\"0.005\"} 2\n", "go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%d: there is no %q", answer.Code, want)
		}
	}
}

func TestConcurrently(t *testing.T) {
	const workers, each = 8, 2000
	m := New(Options{})
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range each {
				m.Enter(BlobGet)
				m.Served(Request{Method: "GET", Status: 200 + i%20, Took: time.Duration(i), Sent: 1, Route: BlobGet, Entered: true})
			}
		})
	}
	for range 20 {
		gather(t, m)
	}
	group.Wait()
	total := 0.0
	for _, one := range gather(t, m)["imageregistry_http_requests_total"].GetMetric() {
		total += one.GetCounter().GetValue()
	}
	sent := sample(t, m, "imageregistry_http_response_size_bytes").GetSummary()
	if total != workers*each || sent.GetSampleCount() != workers*each || sent.GetSampleSum() != workers*each {
		t.Errorf("%v requests, %v; want %d", total, sent, workers*each)
	}
}

func TestQuantiles(t *testing.T) {
	now := time.Unix(0, 0)
	s := &summary{turned: now}
	random := rand.New(rand.NewPCG(1, 2))
	var all []float64
	for range 20000 {
		v := int64(math.Exp(random.NormFloat64()*2 + 14)) // about a millisecond, over many powers of two
		all = append(all, float64(v)/1e9)
		s.observe(v)
	}
	slices.Sort(all)
	desc := prometheus.NewDesc("x", "x", nil, nil)
	read := func() *dto.Summary {
		var sum tally
		s.addTo(now, uint64(len(all)), &sum)
		var m dto.Metric
		if err := sum.metric(desc, 1e9).Write(&m); err != nil {
			t.Fatal(err)
		}
		return m.Summary
	}
	for _, q := range read().Quantile {
		if want := all[int(math.Ceil(q.GetQuantile()*float64(len(all))))-1]; math.Abs(q.GetValue()/want-1) > 1.0/32 {
			t.Errorf("the quantile %v is %v, want %v", q.GetQuantile(), q.GetValue(), want)
		}
	}
	sum := read().GetSampleSum()
	for range 2 {
		now = now.Add(turn)
		read() // the other window's turn
	}
	if got := read(); got.GetSampleSum() != sum || !math.IsNaN(got.Quantile[0].GetValue()) {
		t.Errorf("after two turns it is %v", got)
	}
}

func TestBuckets(t *testing.T) {
	for _, v := range []uint64{0, 1, 15, 16, 31, 32, 63, 64, 65, 127, 128, 1000, 1 << 20, 1<<20 - 1, maxValue} {
		if got := middle(bucketOf(v)); math.Abs(got-float64(v)) > float64(v)/32 {
			t.Errorf("%d is taken for %v", v, got)
		}
	}
	if last := bucketOf(maxValue); last != buckets-1 {
		t.Errorf("the last bucket is %d of %d", last, buckets)
	}
	var s summary
	s.observe(math.MaxInt64)
	s.observe(-1)
}

func TestNoAllocation(t *testing.T) {
	m := everything(t)
	for name, f := range map[string]func(){
		"a request": func() {
			m.Enter(ManifestGet)
			m.Served(Request{Method: "GET", Status: 200, Took: 80 * time.Microsecond, Sent: 500, Route: ManifestGet, ByTag: true, Entered: true})
		},
		"a call of the store": func() { m.StoreCalled(ReadRecord, time.Millisecond, NotFound) },
		"a lookup":            func() { m.LookedUp(BlobRecord, true) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkServed(b *testing.B) {
	m := New(Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			m.Enter(ManifestGet)
			m.Served(Request{Method: "GET", Status: 200, Took: time.Duration(i%1000) * time.Microsecond, Sent: 500, Route: ManifestGet, ByTag: true, Entered: true})
		}
	})
}

// BenchmarkSummary compares what is observed here with client_golang.
func BenchmarkSummary(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		s := new(summary)
		b.RunParallel(func(pb *testing.PB) {
			for i := int64(0); pb.Next(); i++ {
				s.observe(i % 1000 * 1000)
			}
		})
	})
	b.Run("client_golang", func(b *testing.B) {
		b.ReportAllocs()
		s := prometheus.NewSummary(prometheus.SummaryOpts{Name: "x", Objectives: map[float64]float64{.5: .05, .9: .01, .99: .001}})
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				s.Observe(float64(i%1000) * 1e-6)
			}
		})
	})
}
