package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"berth/storage"
	"berth/storage/filesystem"
)

// tree lists what is in a folder.
func tree(t *testing.T, root string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// works is the table of a storage that works, without its times.
const works = `TRIED RESULT TIME LOOK AT
open works
write works
read works
read a range works
create once works
replace under a condition works
list in order works
large object works
signed URL none: the registry sends blobs itself
delete under a condition works
delete works
leave nothing works
`

var times = regexp.MustCompile(` +[0-9.]+m?s +\n| +0s +\n`)

func probed(t *testing.T, config string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), []string{"config", "check", "--probe", write(t, config)}, environment{nil, strings.NewReader(""), &out, &errs})
	_, table, _ := strings.Cut(out.String(), ": ok\n")
	return code, regexp.MustCompile(`  +`).ReplaceAllString(times.ReplaceAllString(table, "\n"), " "), errs.String()
}

func TestProbe(t *testing.T) {
	there := t.TempDir()
	for _, storage := range []string{
		"inmemory",
		"{filesystem: {rootdirectory: %s/new/folder}}", "{filesystem: {rootdirectory: %s}}", "{filesystem: {rootdirectory: %s, shared: true}}",
		"{emptydir: {rootdirectory: %s/new}}", "{emptydir: {rootdirectory: %s}}",
	} {
		config := "version: 0.1\nstorage: " + strings.ReplaceAll(storage, "%s", there) + "\n"
		if code, stdout, stderr := probed(t, config); code != 0 || stdout != works || stderr != "" {
			t.Errorf("%s: exit status %d, %q\n%s", storage, code, stderr, stdout)
		}
		if left := tree(t, there); len(left) != 1 {
			t.Errorf("%s: this is left: %q", storage, left)
		}
	}
}

// TestProbeServed probes folders that somebody has.
func TestProbeServed(t *testing.T) {
	for driver, open := range map[string]func(context.Context, filesystem.Options) (*filesystem.Driver, error){
		"filesystem": filesystem.Open, "emptydir": filesystem.OpenEmptyDir,
	} {
		root := t.TempDir()
		d, err := open(t.Context(), filesystem.Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Put(t.Context(), "data/x", strings.NewReader("x"), 1, storage.Absent()); err != nil {
			t.Error(err)
		}
		before := tree(t, root)
		code, stdout, stderr := probed(t, fmt.Sprintf("version: 0.1\nstorage: {%s: {rootdirectory: %s}}\n", driver, root))
		if code != 0 || stdout != works {
			t.Errorf("%s: exit status %d, %q\n%s", driver, code, stderr, stdout)
		}
		if after := tree(t, root); !slices.Equal(after, before) {
			t.Errorf("%s: this is there now: %q\nbefore: %q", driver, after, before)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestProbeFails probes storages that cannot work.
func TestProbeFails(t *testing.T) {
	foreign := t.TempDir()
	if err := os.MkdirAll(filepath.Join(foreign, "docker/registry/v2"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := write(t, "not a folder")
	for storage, want := range map[string]string{
		"{filesystem: {rootdirectory: " + foreign + "}}":                                      "config.yml:2: storage.filesystem.rootdirectory: " + foreign + ": it holds the data of a CNCF distribution registry",
		"{filesystem: {rootdirectory: " + file + "}}":                                         "config.yml:2: storage.filesystem.rootdirectory: " + file + ": ",
		"{emptydir: {rootdirectory: " + file + "}}":                                           "config.yml:2: storage.emptydir.rootdirectory: " + file + ": ",
		"{s3: {bucket: b, regionendpoint: 'http://127.0.0.1:1', accesskey: a, secretkey: s}}": "open: open the bucket b: storage.s3.regionendpoint: ",
	} {
		code, stdout, stderr := probed(t, "version: 0.1\nstorage: "+storage+"\n")
		if code != 1 || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%s: exit status %d, %q\n%s", storage, code, stderr, stdout)
		}
	}
	if left := tree(t, foreign); len(left) != 4 {
		t.Errorf("there is %q", left)
	}
}
