package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"berth/storage"
	"berth/storage/gcs/gcstest"
	"berth/storage/remote"
	"berth/storage/remote/remotetest"
	"berth/storage/storagetest"
)

func TestSuite(t *testing.T) {
	for name, change := range map[string]func(*gcstest.Service){"Google": func(*gcstest.Service) {}, "fake-gcs-server": func(f *gcstest.Service) { f.Lax = true }} {
		t.Run(name, func(t *testing.T) {
			storagetest.Test(t, func(t *testing.T) storage.Driver {
				service := gcstest.New()
				change(service)
				d := openOver(t, over(service))
				if d.named != service.Lax {
					t.Fatalf("deletions name a generation: %t", d.named)
				}
				return d
			})
		})
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	for name, isPaced := range map[string]bool{"at once": false, "one write a second": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := gcstest.New()
				service.Paced = isPaced
				o := over(service)
				o.Warn = func(text string) { t.Error(text) }
				openOver(t, o)
				if len(service.Objects) != 0 {
					t.Errorf("the probe left %v", service.Objects)
				}
				requests, _ := service.Take()
				t.Logf("%d requests: %q", len(requests), requests)
			})
		})
	}
}

// TestRefusals opens buckets that cannot work. Each error names the key to fix.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		service func(*gcstest.Service)
		change  func(*Options)
		want    string
	}{
		"no conditions":    {service: func(f *gcstest.Service) { f.Laxer = true }, want: "ignores conditions"},
		"no such bucket":   {change: func(o *Options) { o.Bucket = "nothing" }, want: "storage.gcs.bucket"},
		"nobody pays":      {service: func(f *gcstest.Service) { f.Payer = "p" }, want: "storage.gcs.projectid"},
		"no file":          {change: func(o *Options) { o.Credentials = Credentials{File: "/nowhere/key"} }, want: "storage.gcs.keyfile"},
		"not JSON":         {change: func(o *Options) { o.Credentials = Credentials{JSON: "secret-text"} }, want: "storage.gcs.credentials"},
		"an unknown kind":  {change: func(o *Options) { o.Credentials = Credentials{JSON: `{"type": "x"}`} }, want: "storage.gcs.credentials"},
		"a bad authority":  {change: func(o *Options) { o.CA = "/dev/null" }, want: "storage.gcs.rootca"},
		"a proxy of sorts": {change: func(o *Options) { o.Proxy = "::" }, want: "storage.gcs.proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			service := gcstest.New()
			if c.service != nil {
				c.service(service)
			}
			o := over(service)
			if c.change != nil {
				c.change(&o)
			}
			_, err := Open(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-text") {
				t.Errorf("Open = %v, want %s", err, c.want)
			}
		})
	}
}

// TestPays has a bucket whose requesters pay.
func TestPays(t *testing.T) {
	service := gcstest.New()
	service.Payer = "p"
	o := over(service)
	o.Project = "p"
	d := openOver(t, o)
	large := strings.Repeat("x", 3*gcstest.ChunkUnit+1)
	for key, body := range map[string]string{"k": "1", "data/k": large} {
		if _, err := d.Put(t.Context(), key, strings.NewReader(body), -1, storage.Absent()); err != nil {
			t.Error(err)
		}
		if got, _, err := storage.ReadAll(t.Context(), d, key, 1<<20); err != nil || string(got) != body {
			t.Errorf("%s reads as %d bytes, %v", key, len(got), err)
		}
	}
}

// TestEncrypts has objects name their key.
func TestEncrypts(t *testing.T) {
	service := gcstest.New()
	o := over(service)
	o.KeyID = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	d := openOver(t, o)
	for key, size := range map[string]int{"k": 1, "data/k": 3 * gcstest.ChunkUnit} {
		if _, err := d.Put(t.Context(), key, strings.NewReader(strings.Repeat("x", size)), -1, storage.Cond{}); err != nil {
			t.Error(err)
		}
		if got := service.Objects["root/"+key].KMS; got != o.KeyID {
			t.Errorf("%s is encrypted by %q", key, got)
		}
	}
}

// TestForeignKeys has the bucket contain what is not ours.
func TestForeignKeys(t *testing.T) {
	service := gcstest.New()
	d := openOver(t, over(service))
	for _, key := range []string{"root/folder/", "root/with space", "rootless", "root"} {
		service.Objects[key] = gcstest.Object{Body: []byte("foreign"), Generation: 1}
	}
	for info, err := range d.List(t.Context(), "", "") {
		t.Errorf("List yields %+v, %v", info, err)
	}
}

// TestCalls counts the requests of each operation.
func TestCalls(t *testing.T) {
	service := gcstest.New()
	take := func() []string {
		requests, _ := service.Take()
		return requests
	}
	remotetest.Counter{T: t, Take: take}.Calls(openOver(t, over(service)), gcstest.ChunkUnit, 3)
}

// TestRate has writers append to one object of a service that takes one write a second to it. None is lost, none is applied
// twice, few are refused for their haste, and it takes no longer than that rate makes it.
func TestRate(t *testing.T) {
	const replicas, writers = 2, 4
	synctest.Test(t, func(t *testing.T) {
		service := gcstest.New()
		service.Paced = true
		var drivers []*Driver
		for range replicas {
			drivers = append(drivers, openOver(t, over(service)))
		}
		if _, err := drivers[0].Put(t.Context(), "log", strings.NewReader(""), 0, storage.Absent()); err != nil {
			t.Fatal(err)
		}
		service.Take()
		start := time.Now()
		var all sync.WaitGroup
		for i := range replicas * writers {
			all.Go(func() { increment(t, drivers[i%replicas], i) })
		}
		all.Wait()
		body, _, err := storage.ReadAll(t.Context(), drivers[0], "log", 1<<20)
		if err != nil || len(strings.Fields(string(body))) != replicas*writers {
			t.Errorf("the log is %q, %v", body, err)
		}
		took := time.Since(start)
		_, throttled := service.Take()
		if took < (replicas*writers-1)*time.Second || took > 4*replicas*writers*time.Second || throttled > 5*replicas*writers {
			t.Errorf("%d writes took %v, and %d were refused for their haste", replicas*writers, took, throttled)
		}
		t.Logf("%d writes took %v, and %d were refused for their haste", replicas*writers, took, throttled)
	})
}

// increment adds a line to the log, however often that takes.
func increment(t *testing.T, d storage.Driver, line int) {
	for range 1000 {
		body, info, err := storage.ReadAll(t.Context(), d, "log", 1<<20)
		if err != nil {
			t.Error(err)
			return
		}
		if strings.Contains(string(body), "<"+strconv.Itoa(line)+">") { // an unavailable that was performed
			return
		}
		text := fmt.Sprintf("%s <%d>", body, line)
		_, err = d.Put(t.Context(), "log", strings.NewReader(text), -1, storage.Match(info.Rev))
		if err == nil {
			return
		}
		if !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrUnavailable) {
			t.Error(err)
			return
		}
	}
	t.Error("too many conflicts")
}

// TestRateForgets has the pacer forget objects that are left in peace, and let others pass.
func TestRateForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := gcstest.New()
		service.Paced = true
		d := openOver(t, over(service))
		put := func(key string) time.Duration {
			start := time.Now()
			if _, err := d.Put(t.Context(), key, strings.NewReader("x"), 1, storage.Cond{}); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		if first, second, other := put("a"), put("a"), put("b"); first != 0 || second == 0 || second > 2*time.Second || other != 0 {
			t.Errorf("writes took %v, %v, and %v to another object", first, second, other)
		}
		time.Sleep(restless + time.Second)
		put("b")
		put("b")
		if len(d.pace.busy) != 1 {
			t.Errorf("%d objects are remembered", len(d.pace.busy))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := d.Put(ctx, "b", strings.NewReader("x"), 1, storage.Cond{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a write that gives up = %v", err)
		}
		time.Sleep(restless + time.Second)
		service.Paced = false
		if first, second := put("b"), put("b"); first != 0 || second != 0 {
			t.Errorf("after a rest writes took %v and %v", first, second)
		}
	})
}

// TestLargeConflict puts and deletes a large object under conditions that hold, and that do not.
func TestLargeConflict(t *testing.T) {
	service := gcstest.New()
	d := openOver(t, over(service))
	body := strings.Repeat("x", 2*gcstest.ChunkUnit+1)
	info, err := d.Put(t.Context(), "data/k", strings.NewReader(body), -1, storage.Absent())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Put(t.Context(), "data/k", strings.NewReader(body), -1, storage.Absent()); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a second create = %v", err)
	}
	if _, err := d.Put(t.Context(), "data/k", strings.NewReader(body+"y"), -1, storage.Match(info.Rev)); err != nil {
		t.Errorf("a put under the right condition = %v", err)
	}
	if err := d.Delete(t.Context(), "data/k", storage.Match(info.Rev)); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a stale deletion = %v", err)
	}
	if err := d.Delete(t.Context(), "data/none", storage.Match(info.Rev)); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a deletion of nothing = %v", err)
	}
	if _, err := d.Stat(t.Context(), "data/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of nothing = %v", err)
	}
}

// TestBrokenBodies has clients break off while they send a large object: that says nothing about the service, which others still reach.
func TestBrokenBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openOver(t, over(gcstest.New()))
		cut := errors.New("the client went away")
		for range 2 * remote.TripAfter {
			body := io.MultiReader(strings.NewReader(strings.Repeat("x", gcstest.ChunkUnit+1)), iotest.ErrReader(cut))
			if _, err := d.Put(t.Context(), "data/k", body, -1, storage.Cond{}); !errors.Is(err, cut) {
				t.Fatalf("Put = %v", err)
			}
			time.Sleep(time.Second)
		}
		if _, err := d.Stat(t.Context(), "data/k"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat = %v", err)
		}
	})
}

// TestBucketGone tells a bucket that is gone from an object that is not there.
func TestBucketGone(t *testing.T) {
	service := gcstest.New()
	d := openOver(t, over(service))
	service.Bucket = "another"
	for what, err := range map[string]error{
		"put":   second(d.Put(t.Context(), "k", strings.NewReader("x"), 1, storage.Absent())),
		"large": second(d.Put(t.Context(), "k", strings.NewReader(strings.Repeat("x", 2*gcstest.ChunkUnit)), -1, storage.Absent())),
		"stat":  second(d.Stat(t.Context(), "k")), "delete": d.Delete(t.Context(), "k", storage.Cond{}),
	} {
		if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s = %v", what, err)
		}
	}
}

func second(_ storage.Info, err error) error { return err }

// over are the options of a driver whose network is a service.
func over(service http.RoundTripper) Options {
	return Options{
		Bucket: "registry", Root: "root", Credentials: Credentials{Anonymous: true}, ChunkSize: gcstest.ChunkUnit,
		Transport: func(http.RoundTripper) http.RoundTripper { return service },
	}
}

// openOver returns a driver that lives as long as a test.
func openOver(t testing.TB, o Options) *Driver {
	t.Helper()
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
