package clients

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	chartConfig = "application/vnd.cncf.helm.config.v1+json"
	chartLayer  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	chartSigned = "application/vnd.cncf.helm.chart.provenance.v1.prov"
)

// helm is Helm with folders of its own.
func helm(t *testing.T) tool {
	t.Helper()
	helm := installed(t, "helm")
	home := t.TempDir()
	helm.env = []string{"HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home, "DOCKER_CONFIG=" + home}
	return helm
}

// chart packages a chart of one template, with more lines in its Chart.yaml, and returns the file.
func chart(t *testing.T, helm tool, name, version, more string) string {
	t.Helper()
	dir, out := filepath.Join(t.TempDir(), name), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "templates"), 0o755))
	for file, text := range map[string]string{
		"Chart.yaml":               fmt.Sprintf("apiVersion: v2\nname: %s\nversion: %s\ndescription: of a test\n%s", name, version, more),
		"values.yaml":              "greeting: hello\n",
		"README.md":                "How to use " + name + "\n",
		"templates/configmap.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {greeting: {{ .Values.greeting }}}\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
	if more != "" {
		helm.run("dependency", "update", "--plain-http", dir)
	}
	helm.run("package", "--destination", out, dir)
	return filepath.Join(out, name+"-"+version+".tgz")
}

// TestHelm pushes charts, shows, renders and pulls them, and resolves a dependency, with Helm.
func TestHelm(t *testing.T) {
	helm, s := helm(t), serve(t)
	charts := "oci://" + s.Addr + "/charts"
	file := chart(t, helm, "web", "1.2.0+build.1", "")
	must(t, os.WriteFile(file+".prov", []byte("who signed it\n"), 0o644))

	t.Run("push and pull", func(t *testing.T) {
		helm := helm.with(t)
		helm.run("push", "--plain-http", file, charts)
		_, below := walk(t, s.Client, "charts/web", "1.2.0_build.1") // a tag has no "+"
		if len(below[chartConfig]) != 1 || len(below[chartLayer]) != 1 || len(below[chartSigned]) != 1 {
			t.Errorf("what was pushed is %v", below)
		}
		dir := t.TempDir()
		helm.run("pull", "--plain-http", "--prov", "--version", "1.2.0+build.1", "--destination", dir, charts+"/web")
		for _, name := range []string{file, file + ".prov"} {
			pushed, err := os.ReadFile(name)
			must(t, err)
			pulled, err := os.ReadFile(filepath.Join(dir, filepath.Base(name)))
			must(t, err)
			if !bytes.Equal(pulled, pushed) {
				t.Errorf("%s is not what was pushed", filepath.Base(name))
			}
		}
		digest, err := s.Resolve("charts/web", "1.2.0_build.1")
		must(t, err)
		helm.run("pull", "--plain-http", "--destination", t.TempDir(), charts+"/web@"+digest)
	})
	t.Run("show and render", func(t *testing.T) {
		helm := helm.with(t)
		helm.run("push", "--plain-http", chart(t, helm, "web", "1.3.0", ""), charts)
		helm.run("push", "--plain-http", chart(t, helm, "web", "2.0.0", ""), charts)
		for version, want := range map[string]string{"^1.2": "version: 1.3.0", ">0": "version: 2.0.0", "1.3.0": "version: 1.3.0"} {
			if shown := helm.run("show", "chart", "--plain-http", "--version", version, charts+"/web"); !strings.Contains(shown, want) {
				t.Errorf("version %s is shown as %q", version, shown)
			}
		}
		if all := helm.run("show", "all", "--plain-http", charts+"/web"); !strings.Contains(all, "How to use web") || !strings.Contains(all, "greeting: hello") {
			t.Errorf("all that is shown is %q", all)
		}
		if text := helm.run("template", "--plain-http", "--set", "greeting=hi", charts+"/web"); !strings.Contains(text, "data: {greeting: hi}") {
			t.Errorf("the chart is rendered as %q", text)
		}
	})
	t.Run("dependency", func(t *testing.T) {
		helm := helm.with(t)
		parent := chart(t, helm, "shop", "0.1.0", "dependencies: [{name: web, version: ~1.3, repository: \""+charts+"\"}]\n")
		if text := helm.run("template", parent); !strings.Contains(text, "name: web") {
			t.Errorf("the chart is rendered without its dependency: %q", text)
		}
	})
	t.Run("gone", func(t *testing.T) {
		helm := helm.with(t)
		digest, err := s.Resolve("charts/web", "2.0.0")
		must(t, err)
		deleted(t, s, "charts/web", digest)
		fails(t, helm, []string{"not found"}, "pull", "--plain-http", "--destination", t.TempDir(), "--version", "2.0.0", charts+"/web")
	})
}
