// Package monitoring has a real Prometheus read what the built registry measures, and holds the figures to what was done.
package monitoring

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

const secret = "a-long-random-secret"

// serve runs a registry that is measured at both endpoints, and returns the address of the second one.
func serve(t *testing.T, o harness.Options) (*harness.Server, string) {
	t.Helper()
	debug := harness.FreeAddr(t)
	o.Env = append(o.Env, "REGISTRY_OPENSHIFT_METRICS_ENABLED=true", "REGISTRY_OPENSHIFT_METRICS_SECRET="+secret,
		"REGISTRY_HTTP_DEBUG_ADDR="+debug, "REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED=true", "REGISTRY_AUTH={anonymous: [pull, push, list, delete]}")
	return harness.Start(t, o), debug
}

// samples are values by name and labels, as they are written.
type samples map[string]float64

// scrape reads the endpoint of the registry itself.
func scrape(t *testing.T, s *harness.Server) samples {
	t.Helper()
	r, err := s.Do(harness.Call{Method: "GET", Path: "/extensions/v2/metrics", Header: http.Header{"Authorization": {"Bearer " + secret}}})
	if err != nil || r.Status != http.StatusOK {
		t.Fatal(r, err)
	}
	found := samples{}
	for line := range strings.Lines(string(r.Body)) {
		at := strings.LastIndexByte(line, ' ')
		if value, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64); err == nil && line[0] != '#' {
			found[line[:at]] = value
		}
	}
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// traffic pushes one image and pulls it, with a miss and an error, and returns how many bytes of bodies went each way.
func traffic(t *testing.T, s *harness.Server) (received, sent int) {
	t.Helper()
	image := content.Algorithm(content.Digest).Image("measured", content.AMD64(), []int{100_000, 7}, nil)
	must(t, s.Push("team/app", image, "v1"))
	must(t, s.Verify("team/app", image))
	for _, b := range image.Blobs {
		received += len(b.Bytes)
		sent += len(b.Bytes)
	}
	for _, m := range image.Manifests {
		received += len(m.Bytes)
		sent += len(m.Bytes)
	}
	received += len(image.Top().Bytes) // by tag too
	for _, call := range []harness.Call{
		{Method: "HEAD", Path: "/v2/team/app/manifests/v1"}, {Method: "GET", Path: "/v2/team/app/manifests/v2"},
		{Method: "GET", Path: "/v2/team/app/tags/list"}, {Method: "BREW", Path: "/v2/"},
	} {
		r, err := s.Do(call)
		must(t, err)
		sent += len(r.Body)
	}
	return received, sent
}

// TestFigures compares what is counted with what was done, to the byte.
func TestFigures(t *testing.T) {
	s, _ := serve(t, harness.Options{})
	before := scrape(t, s)
	began := time.Now()
	received, sent := traffic(t, s)
	took := time.Since(began).Seconds()
	after := scrape(t, s)
	blobs := 3 // a config and two layers
	for name, want := range map[string]int{
		`imageregistry_http_requests_total{code="201",method="put"}`:                              blobs + 2,
		`imageregistry_http_requests_total{code="202",method="post"}`:                             blobs,
		`imageregistry_http_requests_total{code="200",method="get"}`:                              blobs + 2 + 1, // and the scrape before
		`imageregistry_http_requests_total{code="404",method="get"}`:                              1,
		`imageregistry_http_requests_total{code="200",method="head"}`:                             1,
		`imageregistry_http_requests_total{code="405",method="unknown"}`:                          1,
		`imageregistry_http_request_size_bytes_sum`:                                               received,
		`imageregistry_http_request_duration_seconds_count{method="put"}`:                         blobs + 2,
		`imageregistry_request_duration_seconds_count{operation="BlobStore.Create"}`:              blobs,
		`imageregistry_request_duration_seconds_count{operation="BlobWriter.Commit"}`:             blobs,
		`imageregistry_request_duration_seconds_count{operation="BlobStore.ServeBlob"}`:           blobs,
		`imageregistry_request_duration_seconds_count{operation="ManifestService.Put"}`:           2,
		`imageregistry_request_duration_seconds_count{operation="TagService.Tag"}`:                1,
		`imageregistry_request_duration_seconds_count{operation="ManifestService.Get"}`:           2,
		`imageregistry_request_duration_seconds_count{operation="TagService.Get"}`:                2,
		`imageregistry_request_duration_seconds_count{operation="TagService.All"}`:                1,
		`imageregistry_http_in_flight_requests`:                                                   0, // both scrapes see themselves
		`berth_http_requests_total{route="manifest_get",status="4xx"}`:                            1,
		`berth_http_requests_total{route="blob_get",status="2xx"}`:                                blobs,
		`berth_http_request_duration_seconds_count{route="upload_close"}`:                         blobs,
		`berth_http_requests_total{route="other",status="4xx"}`:                                   1,
		`berth_auth_requests_total{outcome="anonymous"}`:                                          blobs*3 + 2 + 1 + 3,
		`berth_storage_errors_total{call="write_record",error="no_space"}`:                        0,
		`imageregistry_storage_errors_total{code="UNKNOWN",operation="StorageDriver.PutContent"}`: 0,
	} {
		if got := after[name] - before[name]; got != float64(want) {
			t.Errorf("%s grew by %v, want %d", name, got, want)
		}
	}
	sentBefore := before[`berth_http_sent_bytes_total{route="metrics"}`]
	if got := total(after, "berth_http_sent_bytes_total") - after[`berth_http_sent_bytes_total{route="metrics"}`]; got != float64(sent) || sentBefore != 0 {
		t.Errorf("%v bytes were sent, want %d", got, sent)
	}
	if got := total(after, "berth_http_received_bytes_total"); got != float64(received) {
		t.Errorf("%v bytes were received, want %d", got, received)
	}
	durations := total(after, "imageregistry_http_request_duration_seconds_sum")
	if routes := total(after, "berth_http_request_duration_seconds_sum"); durations <= 0 || durations > took+1 || routes < durations*.999 || routes > durations*1.001 {
		t.Errorf("requests took %v s by method and %v s by route; all of it took %v s", durations, routes, took)
	}
	if total(after, "imageregistry_storage_duration_seconds_count") == 0 || after["berth_storage_free_bytes"] <= 0 {
		t.Error("the storage is not measured")
	}
}

// total adds up a family.
func total(all samples, name string) (sum float64) {
	for sample, value := range all {
		if sample == name || strings.HasPrefix(sample, name+"{") {
			sum += value
		}
	}
	return sum
}

// TestHostile sends what could make labels grow, and counts the samples.
func TestHostile(t *testing.T) {
	s, _ := serve(t, harness.Options{})
	round := func(n int) {
		for i := range n {
			for _, call := range []harness.Call{
				{Method: "M" + strconv.Itoa(i), Path: "/v2/"}, {Method: "GET", Path: "/v2/r" + strconv.Itoa(i) + "/tags/list"},
				{Method: "GET", Path: "/v2/a/manifests/t" + strconv.Itoa(i)}, {Method: "GET", Path: "/" + strconv.Itoa(i)},
				{Method: "GET", Path: "/v2/a/manifests/x", Header: http.Header{"Host": {strconv.Itoa(i)}, "User-Agent": {strconv.Itoa(i)},
					"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("u"+strconv.Itoa(i)+":x"))}}},
				{Method: "PUT", Path: "/v2/a/manifests/v" + strconv.Itoa(i), Body: []byte("{}"), Header: http.Header{"Content-Type": {"x/" + strconv.Itoa(i)}}},
				{Method: "get", Path: "/v2/a/blobs/uploads/" + strconv.Itoa(i)},
			} {
				if _, err := s.Do(call); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	round(2)
	scrape(t, s)
	before := scrape(t, s)
	round(100)
	after := scrape(t, s)
	for name := range after {
		if _, known := before[name]; !known {
			t.Errorf("there is a new sample %s", name)
		}
	}
}

// TestExample is the example of OpenShift's documentation, and the names that its answer shows.
func TestExample(t *testing.T) {
	harness.Need(t, "curl")
	s, debug := serve(t, harness.Options{})
	traffic(t, s)
	out, err := exec.Command("sh", "-c", "curl -s -u any:"+secret+" "+s.Base+"/extensions/v2/metrics | grep imageregistry").CombinedOutput()
	must(t, err)
	for _, want := range []string{
		`# HELP imageregistry_build_info A metric with a constant '1' value labeled by major, minor, git commit & git version from which the image registry was built\.`,
		`# TYPE imageregistry_build_info gauge`, `imageregistry_build_info\{gitCommit="[^"]*",gitVersion="[^"]+",major="\d*",minor="\d*"\} 1`,
		`# TYPE imageregistry_digest_cache_requests_total counter`, `imageregistry_digest_cache_requests_total\{type="Hit"\} \d+`,
		`imageregistry_digest_cache_requests_total\{type="Miss"\} \d+`, `# TYPE imageregistry_digest_cache_scoped_requests_total counter`,
		`imageregistry_digest_cache_scoped_requests_total\{type="Hit"\} \d+`, `imageregistry_digest_cache_scoped_requests_total\{type="Miss"\} \d+`,
		`# TYPE imageregistry_http_in_flight_requests gauge`, `imageregistry_http_in_flight_requests 1`,
		`# TYPE imageregistry_http_request_duration_seconds summary`,
		`imageregistry_http_request_duration_seconds\{method="get",quantile="0.5"\} [0-9.e-]+`,
		`imageregistry_http_request_duration_seconds\{method="get",quantile="0.9"\} [0-9.e-]+`,
		`imageregistry_http_request_duration_seconds\{method="get",quantile="0.99"\} [0-9.e-]+`,
		`imageregistry_http_request_duration_seconds_sum\{method="get"\} [0-9.e-]+`,
		`imageregistry_http_request_duration_seconds_count\{method="get"\} \d+`,
	} {
		if !regexp.MustCompile("(?m)^" + want + "$").Match(out) {
			t.Errorf("there is no line %s in\n%s", want, out)
		}
	}
	for _, credentials := range []string{"", "any:wrong", secret + ":"} {
		out, err := exec.Command("curl", "-s", "-o", os.DevNull, "-w", "%{http_code}", "-u", credentials, s.Base+"/extensions/v2/metrics").Output()
		if err != nil || string(out) != "401" {
			t.Errorf("with the credentials %q the answer is %s, %v", credentials, out, err)
		}
	}
	plain, err := harness.NewClient("http://" + debug).Get("/metrics")
	if err != nil || plain.Want(http.StatusOK) != nil {
		t.Error(plain, err)
	}
	if strings.Contains(s.Log(), secret) {
		t.Error("the log has the secret")
	}
}

// TestRules has promtool check and try the rules, and check how the figures are named.
func TestRules(t *testing.T) {
	harness.Need(t, "promtool")
	rules := filepath.Join(harness.Root(), "docs", "monitoring", "alerts.yml")
	for _, args := range [][]string{{"check", "rules", rules}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	text, err := os.ReadFile(rules)
	must(t, err)
	tried, err := os.ReadFile("alerts_test.yml")
	must(t, err)
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(text, -1) {
		if strings.Count(string(tried), string(m[1])) < 2 {
			t.Errorf("the alert %s is not tried both ways", m[1])
		}
	}
}

func TestLint(t *testing.T) {
	harness.Need(t, "promtool")
	_, debug := serve(t, harness.Options{})
	r, err := harness.NewClient("http://" + debug).Get("/metrics")
	must(t, err)
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(string(r.Body))
	out, _ := lint.CombinedOutput() // it fails for names of OpenShift, which are as they are
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "berth_") || strings.Contains(line, "error") {
			t.Error(line)
		}
	}
}

const prometheusConfig = `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: berth
    metrics_path: /extensions/v2/metrics
    scheme: https
    tls_config: {ca_file: %q}
    basic_auth: {username: prometheus, password: %s}
    static_configs: [{targets: [%q]}]
  - job_name: debug
    static_configs: [{targets: [%q]}]
`

// A prometheus is a server that runs.
type prometheus struct {
	*testing.T
	client *harness.Client
}

// startPrometheus runs a Prometheus until the test ends.
func startPrometheus(t *testing.T, config string, flags ...string) prometheus {
	t.Helper()
	dir, addr := t.TempDir(), harness.FreeAddr(t)
	file := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(file, []byte(config), 0o600))
	harness.Run(t, nil, "prometheus", append(flags, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn")...)
	return prometheus{t, harness.NewClient("http://" + addr)}
}

// get asks the API and decodes the data of its answer.
func (p prometheus) get(path string, data any) error {
	r, err := p.client.Get(path)
	if err != nil {
		return err
	}
	if err := r.Want(http.StatusOK); err != nil {
		return err
	}
	answer := struct{ Data any }{data}
	return json.Unmarshal(r.Body, &answer)
}

// query returns the value of an expression with one result.
func (p prometheus) query(expression string) (float64, error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(expression), &data); err != nil {
		return 0, err
	}
	if len(data.Result) != 1 {
		return 0, fmt.Errorf("%s has %d results", expression, len(data.Result))
	}
	return strconv.ParseFloat(data.Result[0].Value[1].(string), 64)
}

// await asks until an expression has a value.
func (p prometheus) await(expression string, want float64) {
	p.Helper()
	var got float64
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got, err = p.query(expression); err == nil && got == want {
			return
		}
	}
	p.Errorf("%s is %v (%v), want %v", expression, got, err, want)
}

// selfSigned makes a private authority and a certificate of it, and returns their folder.
func selfSigned(t *testing.T) string {
	t.Helper()
	binary, err := harness.Binary()
	must(t, err)
	dir := t.TempDir()
	out, err := exec.Command(binary, "tls", "self-signed", "--out", dir, "localhost", "127.0.0.1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestPrometheus has both endpoints read by a Prometheus with the rules loaded, by classic and by native histograms: where it
// asks for the latter, Prometheus keeps nothing else of them.
func TestPrometheus(t *testing.T) {
	harness.Need(t, "prometheus")
	t.Run("classic", func(t *testing.T) {
		readBy(t, `berth_http_request_duration_seconds_bucket{route="manifest_put",le="+Inf",job=%q}`)
	})
	t.Run("native", func(t *testing.T) {
		readBy(t, `histogram_count(berth_http_request_duration_seconds{route="manifest_put",job=%q})`, "--enable-feature=native-histograms")
	})
}

// readBy has a registry read by a Prometheus with these flags; puts counts manifests put, of a job.
func readBy(t *testing.T, puts string, flags ...string) {
	tls := selfSigned(t)
	s, debug := serve(t, harness.Options{TLS: tls})
	p := startPrometheus(t, fmt.Sprintf(prometheusConfig, filepath.Join(harness.Root(), "docs", "monitoring", "alerts.yml"),
		filepath.Join(tls, "ca.crt"), secret, s.Addr, debug), flags...)
	p.await("count(up == 1)", 2)
	received, _ := traffic(t, s)
	for _, job := range []string{"berth", "debug"} {
		p.await(`sum(berth_http_received_bytes_total{job="`+job+`"})`, float64(received))
		p.await(`imageregistry_http_requests_total{code="405",method="unknown",job="`+job+`"}`, 1)
		p.await(fmt.Sprintf(puts, job), 2)
		p.await(`imageregistry_request_duration_seconds_count{operation="BlobStore.ServeBlob",job="`+job+`"}`, 3)
		p.await(`count(berth_tls_certificate_expiry_timestamp_seconds{job="`+job+`"} > time())`, 1)
	}
	p.await(`imageregistry:operations_count:sum{operation="ManifestService.Put"}`, 4) // of both jobs
	p.wantDashboard()
	p.wantRules()
}

// wantRules waits until every rule was evaluated, well.
func (p prometheus) wantRules() {
	p.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	n, pending := 0, true
	for deadline := time.Now().Add(time.Minute); pending && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err := p.get("/api/v1/rules", &data); err != nil {
			p.Fatal(err)
		}
		n, pending = 0, false
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				n++
				pending = pending || r.Health == "unknown"
				if r.Health == "err" || r.State == "firing" {
					p.Fatalf("the rule %s is %s: %s %s", r.Name, r.State, r.Health, r.LastError)
				}
			}
		}
	}
	if n < 10 || pending {
		p.Errorf("of %d rules, some were not evaluated", n)
	}
}
