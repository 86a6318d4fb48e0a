// Package conformance holds the registry against the OCI distribution specification (main branch): one row for each
// MUST and SHOULD that concerns registries, and one for each thing that the public conformance suite sends, over HTTP
// against the built binary. Every row runs in a fresh store, again in the same store, and after a restart; over object
// stores, which take long, in a fresh one and after a restart.
package conformance

import (
	"fmt"
	"strings"
	"testing"

	"berth/tests/harness"
)

// A row is one requirement.
type row struct {
	section string // of the specification
	level   string // MUST, SHOULD, MAY; suite: what only the public suite asks for; ours: beyond the specification
	says    string // in our words
	check   func(trial)
}

// rows returns the whole table.
func rows() []row {
	var all []row
	for _, part := range [][]row{
		pullRows, rangeRows, monolithicRows, chunkRows, sessionRows, mountRows, manifestRows, tagParamRows, refusalRows,
		subjectRows, referrersRows, tagRows, deleteRows, errorRows, generalRows, dataRows,
	} {
		all = append(all, part...)
	}
	return all
}

func TestConformance(t *testing.T) {
	drivers := []string{"inmemory", "filesystem", "emptydir", "s3 over http", "s3 over https", "gcs over http", "azure over http"}
	if testing.Short() {
		drivers = drivers[:1]
	}
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			server := harness.Start(t, options(t, driver))
			run(t, server, "fresh")
			if strings.Contains(driver, "https") {
				return // the way to the service differs, and no more
			}
			if !strings.Contains(driver, "over") {
				run(t, server, "used")
			}
			server.Stop()
			server.Restart()
			run(t, server, "restarted")
		})
	}
	count := map[string]int{}
	for _, r := range rows() {
		count[r.level]++
	}
	t.Logf("conformance: %d rows (%d MUST, %d SHOULD, %d MAY, %d of the public suite, %d of ours) on %v",
		len(rows()), count["MUST"], count["SHOULD"], count["MAY"], count["suite"], count["ours"], drivers)
}

// options are those of a server on a fresh store.
func options(t *testing.T, driver string) harness.Options {
	driver, scheme, _ := strings.Cut(driver, " over ")
	o := harness.Options{Storage: driver}
	switch driver {
	case "s3":
		o.Env = harness.StartS3(t, scheme == "https").Env("/conformance")
	case "gcs":
		o.Env = harness.StartGCS(t).Env("/conformance")
	case "azure":
		o.Env = harness.StartAzure(t, scheme == "https").Env("/conformance")
	}
	if o.Env != nil { // the table is about answers of the registry itself
		o.Env = append(o.Env, "REGISTRY_STORAGE_REDIRECT_DISABLE=true")
	}
	return o
}

func run(t *testing.T, server *harness.Server, phase string) {
	t.Run(phase, func(t *testing.T) {
		for i, r := range rows() {
			t.Run(fmt.Sprintf("%s %s %s", r.section, r.level, r.says), func(t *testing.T) {
				repo := fmt.Sprintf("conformance/row-%d", i)
				r.check(trial{T: t, client: server.Client, repo: repo, other: repo + "/other", fresh: repo + "/" + phase})
			})
		}
	})
}

// TestSparse runs what is allowed only by configuration.
func TestSparse(t *testing.T) {
	server := harness.Start(t, harness.Options{Env: []string{"REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMS=none"}})
	x := trial{T: t, client: server.Client, repo: "conformance/sparse"}
	x.pushSparseIndex().is(201)
}

// TestDeleteDisabled holds the registry to what the specification asks of one that does not delete.
func TestDeleteDisabled(t *testing.T) {
	server := harness.Start(t, harness.Options{Env: []string{"REGISTRY_STORAGE_DELETE_ENABLED=false"}})
	x := trial{T: t, client: server.Client, repo: "conformance/keep"}
	set := x.pushed("latest")
	for _, path := range []string{"manifests/latest", "manifests/" + set.Top().Digest, "blobs/" + set.Blobs[0].Digest} {
		x.do("DELETE", path).is(400, 405).code("UNSUPPORTED")
		x.do("GET", path).is(200)
	}
}

// TestTable holds the table to its own form.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows() {
		if key := r.section + r.says; seen[key] || r.check == nil {
			t.Errorf("%s: %q is there twice, or checks nothing", r.section, r.says)
		} else {
			seen[key] = true
		}
		if !strings.Contains("|MUST|SHOULD|MAY|suite|ours|", "|"+r.level+"|") {
			t.Errorf("%s: %q has the level %q", r.section, r.says, r.level)
		}
	}
}
