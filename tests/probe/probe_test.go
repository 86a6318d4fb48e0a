// Package probe runs `berth config check --probe` over services that are processes of their own.
package probe

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/tests/harness"
)

// check runs the command for a storage and returns what it prints.
func check(t *testing.T, driver string, env []string) (out string, works bool) {
	t.Helper()
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "config", "check", "--probe", "/dev/stdin")
	cmd.Stdin = strings.NewReader("version: 0.1\nstorage: {" + driver + ": {}}\n")
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_EC2_METADATA_DISABLED=true"}, env...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("it ends with %v\n%s", err, text)
	}
	return string(text), err == nil
}

func TestWorks(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (driver string, env []string){
		"s3 over http":     func(t *testing.T) (string, []string) { return "s3", harness.StartS3(t, false).Env("/a/b") },
		"s3 over https":    func(t *testing.T) (string, []string) { return "s3", harness.StartS3(t, true).Env("") },
		"gcs":              func(t *testing.T) (string, []string) { return "gcs", harness.StartGCS(t).Env("/a") },
		"azure over http":  func(t *testing.T) (string, []string) { return "azure", harness.StartAzure(t, false).Env("/a") },
		"azure over https": func(t *testing.T) (string, []string) { return "azure", harness.StartAzure(t, true).Env("/a") },
	} {
		t.Run(name, func(t *testing.T) {
			driver, env := start(t)
			out, works := check(t, driver, env)
			if !works || strings.Count(out, " works ") < 11 || strings.Contains(out, "FAILS") {
				t.Errorf("it does not work:\n%s", out)
			}
			t.Log(out)
		})
	}
}

// TestLeavesNothing looks into the folder of a bucket.
func TestLeavesNothing(t *testing.T) {
	server := harness.StartS3(t, false)
	if out, works := check(t, "s3", server.Env("")); !works {
		t.Error(out)
	}
	err := filepath.WalkDir(server.Folder, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFails takes permissions and services away: the key to look at is named, and no secret is told.
func TestFails(t *testing.T) {
	server := harness.StartS3(t, false)
	for name, c := range map[string]struct {
		change string
		says   []string
	}{
		"wrong secret":        {"SECRETKEY=the-wrong-secret", []string{"open ", "FAILS", "storage.s3.secretkey"}},
		"nobody signs there":  {"REDIRECTENDPOINT=http://127.0.0.1:1", []string{"signed URL ", "FAILS", "storage.s3.redirectendpoint, storage.redirect.disable", "127.0.0.1:1"}},
		"a proxy that is not": {"PROXY=http://user:pass-of-proxy@127.0.0.1:1", []string{"open ", "FAILS", "storage.s3.proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, works := check(t, "s3", append(server.Env("/x"), "REGISTRY_STORAGE_S3_"+c.change))
			if works {
				t.Error("it exits with 0")
			}
			for _, text := range c.says {
				if !strings.Contains(out, text) {
					t.Errorf("it does not say %q:\n%s", text, out)
				}
			}
			for _, secret := range []string{server.SecretKey, "the-wrong-secret", "pass-of-proxy", "X-Amz-Signature"} {
				if strings.Contains(out, secret) {
					t.Errorf("it tells %s:\n%s", secret, out)
				}
			}
		})
	}
}

// TestNoFolder has a file where a folder must be.
func TestNoFolder(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, works := check(t, "filesystem", []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + filepath.Join(file, "store")})
	if works || !strings.Contains(out, "storage.filesystem.rootdirectory") {
		t.Error(out)
	}
}
