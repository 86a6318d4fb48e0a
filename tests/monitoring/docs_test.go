package monitoring

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"berth/tests/harness"
)

// expressions returns the queries of the dashboard, with values for its variables.
func expressions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "monitoring", "dashboard.json"))
	must(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &dashboard))
	var all []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("the panel %s has a target without a query", p.Title)
			}
			all = append(all, strings.NewReplacer("$__rate_interval", "30s", "$instance", ".*", "$job", "berth").Replace(target.Expr))
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d queries were found", len(all))
	}
	return all
}

// wantDashboard sends each query of the dashboard.
func (p prometheus) wantDashboard() {
	p.Helper()
	empty := 0
	for _, expression := range expressions(p.T) {
		var data struct{ Result []any }
		if err := p.get("/api/v1/query?query="+url.QueryEscape(expression), &data); err != nil {
			p.Errorf("%s: %v", expression, err)
		} else if len(data.Result) == 0 {
			empty++
			p.Logf("nothing was found by %s", expression)
		}
	}
	if empty > 6 { // those of failures and waits, and of a collection that has ended, of which there are none
		p.Errorf("%d queries of the dashboard find nothing", empty)
	}
}

var metricName = regexp.MustCompile(`\b(berth|imageregistry)_[a-z][a-z_]*[a-z]`)

// TestDocumented compares the names in the documentation, the rules and the dashboard with those that are exported.
func TestDocumented(t *testing.T) {
	exported := map[string]bool{}
	golden, err := os.ReadFile(filepath.Join(harness.Root(), "metrics", "testdata", "families.golden"))
	must(t, err)
	for line := range strings.Lines(string(golden)) {
		if name := metricName.FindString(line); name != "" && !strings.HasPrefix(line, " ") {
			exported[name] = true
		}
	}
	mentioned := map[string]bool{}
	for _, file := range []string{"monitoring.md", "monitoring/alerts.yml", "monitoring/dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(harness.Root(), "docs", file))
		must(t, err)
		for _, name := range metricName.FindAllString(string(text), -1) {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base, cut := strings.CutSuffix(name, suffix); cut && exported[base] {
					name = base
				}
			}
			if !exported[name] && !strings.HasPrefix(name, "imageregistry_pullthrough") && !(name == "berth_http" || name == "berth_storage") {
				t.Errorf("%s has %s, which is not exported", file, name)
			}
			if file == "monitoring.md" {
				mentioned[name] = true
			}
		}
	}
	for name := range exported {
		if !mentioned[name] {
			t.Errorf("docs/monitoring.md does not explain %s", name)
		}
	}
	if len(exported) < 20 {
		t.Errorf("only %d names are exported", len(exported))
	}
}
