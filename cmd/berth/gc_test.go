package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/registry/admin"
	"berth/registry/gc"
)

const gcConfig = operateConfig + "gc: {grace: 1s, interval: 24h}\n"

func digestOf(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

// pushBlob pushes a blob and returns its digest. Beyond 8 KiB it has a data object.
func (g *guarded) pushBlob(repo, text string) string {
	g.Helper()
	d := digestOf(text)
	g.want(201, "ann", "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d, text)
	return d
}

// pushTag pushes an index without manifests by a tag.
func (g *guarded) pushTag(repo, tag string) string {
	g.Helper()
	body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"of":"` + repo + tag + `"}}`
	g.want(201, "ann", "PUT", "/v2/"+repo+"/manifests/"+tag, body)
	return digestOf(body)
}

// gcRun runs `berth gc run` and returns its last line, and how many findings came before.
func (g *guarded) gcRun(args ...string) (*gc.Report, int) {
	g.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"gc", "run", "--config", filepath.Join(g.dir, "config.yml")}, args...)
	if code := run(g.Context(), args, environment{nil, nil, &stdout, &stderr}); code != 0 {
		g.Fatalf("berth %q: %s", args, &stderr)
	}
	var last admin.GCLine
	findings := 0
	for line := range strings.Lines(stdout.String()) {
		last = admin.GCLine{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			g.Fatalf("%q: %v", line, err)
		}
		if last.Finding != nil {
			findings++
		}
	}
	if last.Report == nil {
		g.Fatalf("berth %q prints %s", args, &stdout)
	}
	return last.Report, findings
}

// removedOf is how many objects of a layer went.
func removedOf(r *gc.Report, name string) int64 {
	for _, l := range r.Layers {
		if l.Name == name {
			return l.Removed
		}
	}
	return 0
}

func TestGCOfARunningServer(t *testing.T) {
	g := startWith(t, func(g *guarded) string { file(t, g.dir, "groups", ""); return gcConfig })
	kept := g.pushTag("team/app", "v1")
	waste := g.pushBlob("team/app", strings.Repeat("waste", 4000))
	g.command(0, "team/app may serve it.*\nnothing names it: it may go from", "", "gc", "why", waste)
	g.command(0, "there is no such blob; manifests stay until they are deleted", "", "gc", "why", digestOf("never pushed"))
	g.command(2, "", "gc why|digest", "gc", "why", "sha256:1")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		would, findings := g.gcRun("--dry-run")
		if !would.DryRun || removedOf(would, "data") == 0 {
			if time.Now().After(end) {
				t.Fatalf("nothing would go: %+v", would)
			}
			continue
		}
		if findings < 3 {
			t.Errorf("a dry run tells of %d objects that would go, want a link, a record and data at least", findings)
		}
		break
	}
	did, _ := g.gcRun("--json")
	if removedOf(did, "links") != 1 || removedOf(did, "blobs") != 1 || removedOf(did, "data") != 1 {
		t.Errorf("the run removed %+v", did)
	}
	g.command(0, `(?s)collections: every 24h.*grace: 1s.*next: .*last: .* by berth\n.*links +`, "", "gc", "status")
	g.command(0, `started .*\n.*berth .*well`, "", "gc", "history", "-n", "1")
	g.command(0, `"id":`, "", "gc", "history", "--json")
	g.command(2, "", "--number must be at least 1, not 0", "gc", "history", "-n", "0")
	g.want(200, "ann", "GET", "/v2/team/app/manifests/"+kept, "")

	commandTest{args: []string{"garbage-collect", filepath.Join(g.dir, "config.yml")}, code: 1,
		stderr: `(?s)garbage-collect: .* serves it already.*berth gc run. collects`}.run(t)
	g.command(0, "on", "", "readonly", "on")
	g.command(1, "", "gc run: the registry is read-only", "gc", "run")
	g.command(1, "", "repository delete: the registry is read-only", "repository", "delete", "team/app")
	g.command(1, "", "purge: the registry is read-only", "purge", waste)
	g.command(0, "off", "", "readonly", "off")
	g.stop()
	if log := g.stderr.String(); !strings.Contains(log, "msg=collected") || !strings.Contains(log, "links=1") {
		t.Errorf("the run is not in the log: %s", log)
	}

	// Nobody serves the store any more.
	g.command(0, `(?s)last: .* by berth\n`, "", "gc", "status")
	g.command(0, `"id":`, "", "gc", "history", "--json")
	g.command(0, "no such blob", "", "gc", "why", waste)
	g.command(1, "", "(?s)gc run: no server answers.*berth serve", "gc", "run")
}

func TestRemovalByCommands(t *testing.T) {
	config := strings.Replace(gcConfig, "authorization: {", "authorization: {immutabletags: [{repositories: 'fixed/**', tags: ['v*']}], ", 1)
	g := startWith(t, func(g *guarded) string { file(t, g.dir, "groups", ""); return config })
	g.pushTag("team/app", "v1")
	g.pushTag("fixed/app", "v1")
	secret := strings.Repeat("secret", 4000)
	g.pushBlob("team/app", secret)
	g.pushBlob("team/other", secret)
	index := g.pushTag("team/third", "v1")

	g.command(2, "", "Team", "repository", "delete", "Team")
	g.command(1, "", "no repository team/none", "repository", "delete", "team/none")
	g.command(0, "deleted team/app: 1 manifests, ", "", "repository", "delete", "team/app")
	g.want(404, "ann", "GET", "/v2/team/app/manifests/v1", "")
	g.command(1, "", "repository delete: .*v1", "repository", "delete", "fixed/app")
	g.want(200, "ann", "GET", "/v2/fixed/app/manifests/v1", "")
	g.command(0, "deleted fixed/app", "", "repository", "delete", "fixed/app", "--force")
	g.want(202, "ann", "DELETE", "/v2/team/third/_berth/repository", "")
	g.want(202, "ann", "DELETE", "/v2/team/third/_berth/repository", "") // what is left of it waits for the collection
	g.want(404, "ann", "GET", "/v2/team/third/tags/list", "")
	g.want(404, "ann", "DELETE", "/v2/team/none/_berth/repository", "")

	g.pushTag("team/third", "v1")
	g.command(0, "(?s)purged .*in 1 objects\n.*team/app, team/other\n.*none", "", "purge", digestOf(secret), "--refuse")
	if names, err := filepath.Glob(filepath.Join(g.dir, "store", "objects", "data", "*", "*")); err != nil || len(names) > 0 {
		t.Errorf("of a purged secret %q are there (%v)", names, err)
	}
	g.want(403, "ann", "POST", "/v2/team/app/blobs/uploads/?digest="+digestOf(secret), secret)
	g.command(0, "can be pushed", "", "purge", digestOf(secret), "--allow")
	g.command(2, "", "contrary", "purge", digestOf(secret), "--allow", "--refuse")
	g.command(2, "", "at least 1", "gc", "history", "-n", "-1")
	g.pushBlob("team/app", secret)
	g.command(0, "as a manifest: team/third", "", "purge", index)
	g.want(404, "ann", "GET", "/v2/team/third/manifests/v1", "")
	g.stop()
}

func TestDeletesAreOff(t *testing.T) {
	g := startWith(t, func(g *guarded) string {
		file(t, g.dir, "groups", "")
		return strings.Replace(gcConfig, "delete: {enabled: true}", "delete: {enabled: false}", 1)
	})
	g.pushTag("team/app", "v1")
	for _, args := range [][]string{{"repository", "delete", "team/app"}, {"purge", digestOf("x")}} {
		g.command(1, "", "deleting is disabled in this registry: set storage.delete.enabled", args...)
	}
	g.want(405, "ann", "DELETE", "/v2/team/app/_berth/repository", "")
	g.stop()
}

func TestGarbageCollect(t *testing.T) {
	g := startWith(t, func(g *guarded) string { file(t, g.dir, "groups", ""); return operateConfig })
	g.pushTag("team/app", "v1")
	untagged := g.pushTag("team/app", "v2")
	g.want(202, "ann", "DELETE", "/v2/team/app/manifests/v2", "")
	g.pushBlob("team/app", strings.Repeat("waste", 4000))
	g.stop()
	config := filepath.Join(g.dir, "config.yml")
	offline := func(code int, stdout, stderr string, args ...string) {
		t.Helper()
		commandTest{args: append([]string{"garbage-collect"}, append(args, config)...), code: code, stdout: stdout, stderr: stderr}.run(t)
	}
	data := func() int {
		names, err := filepath.Glob(filepath.Join(g.dir, "store", "objects", "data", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if data() != 1 {
		t.Fatalf("%d data objects before", data())
	}
	offline(0, "(?s)would remove repositories/team/app/_manifests/.*would remove data/.*would be removed", "", "-d", "-m")
	if data() != 1 {
		t.Error("a dry run removed data")
	}
	offline(0, "^$", "", "-q")
	if data() != 0 {
		t.Error("the waste is still there")
	}
	offline(0, "(?s)^removed repositories/team/app/_manifests/sha256/"+strings.TrimPrefix(untagged, "sha256:")+".*1 objects|removed", "", "--delete-untagged")
	offline(0, "0 objects", "", "-m")

	for text, want := range map[string]string{
		"version: 0.1\nstorage: inmemory\n":                                "of the storage inmemory nothing stays",
		"version: 0.1\nstorage: {emptydir: {rootdirectory: DIR/store}}\n":  "of the storage emptydir nothing stays",
		"version: 0.1\nstorage: {filesystem: {rootdirectory: DIR/none}}\n": "there is no storage at",
	} {
		g.configure(text)
		offline(1, "", "(?s)garbage-collect: .*"+want)
	}
	if _, err := os.Stat(filepath.Join(g.dir, "none")); err == nil {
		t.Error("a store was made to look into it")
	}
	g.configure(strings.Replace(operateConfig, "DIR/store}", "DIR/store, shared: true}", 1))
	offline(1, "", "(?s)several servers can share this storage.*gc run")
	offline(0, "0 objects", "", "--all-stopped")
}
