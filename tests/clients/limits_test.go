package clients

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// A limiting server is one that can be made busy.
type limiting struct {
	*harness.Server
	t *testing.T
}

func serveLimited(t *testing.T, env ...string) limiting {
	t.Helper()
	return limiting{harness.Start(t, harness.Options{Env: append(env, "REGISTRY_LOG_ACCESSLOG_DISABLED=false")}), t}
}

// refusals returns how many requests were answered 429.
func (l limiting) refusals() int { return strings.Count(l.Log(), `" 429 `) }

// occupy keeps the only slot for writes until free is called.
func (l limiting) occupy() (free func()) {
	l.t.Helper()
	r, err := l.Do(harness.Call{Method: "POST", Path: "/v2/occupied/slot/blobs/uploads/"})
	must(l.t, err)
	must(l.t, r.Want(202))
	location, err := url.Parse(r.Header.Get("Location"))
	must(l.t, err)
	return l.stall(fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", location.RequestURI()))
}

// occupyDownload keeps the only slot for downloads.
func (l limiting) occupyDownload(repository string, b content.Blob) (free func()) {
	l.t.Helper()
	return l.stall(fmt.Sprintf("GET /v2/%s/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", repository, b.Digest))
}

// stall sends a request, and neither sends nor takes any more.
func (l limiting) stall(request string) (free func()) {
	l.t.Helper()
	c, err := net.Dial("tcp", l.Addr)
	must(l.t, err)
	must(l.t, c.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(c, request)
	must(l.t, err)
	time.Sleep(200 * time.Millisecond)
	return func() { c.Close() }
}

// refused runs an engine while the server is busy, and returns how many requests were turned away meanwhile.
func (l limiting) refused(run func()) int {
	l.t.Helper()
	const logged = 400 * time.Millisecond // until lines are in the access log
	time.Sleep(logged)
	before := l.refusals()
	run()
	time.Sleep(logged)
	return l.refusals() - before
}

// TestLimits has docker and podman push and pull while the server has no room for them, with a queue and without one. With a
// queue neither notices more than that it waits. Without one, podman comes back when it is told to, a few times, and docker
// gives up at once. Who gives up says why.
func TestLimits(t *testing.T) {
	d, p := docker(t), contained(t, "podman")
	engines := map[string]func(...string) (string, error){
		"docker": d.try,
		"podman": func(args ...string) (string, error) {
			flags := map[string][]string{"push": {"--tls-verify=false"}, "pull": {"--tls-verify=false"}}[args[0]]
			return p.try(slices.Concat(args[:1], flags, args[1:])...)
		},
	}
	const moment = 3 * time.Second
	for _, test := range []struct {
		command, engine string
		queue           int
		busy            time.Duration // 0: for good
		want            string        // what the engine says; "" when it succeeds
	}{
		{"push", "docker", 10, moment, ""},
		{"push", "podman", 10, moment, ""},
		{"push", "docker", 0, moment, "toomanyrequests"},
		{"push", "podman", 0, moment, ""},
		{"pull", "docker", 10, moment, ""},
		{"pull", "podman", 10, moment, ""},
		{"pull", "docker", 0, moment, "toomanyrequests"},
		{"pull", "podman", 0, moment, ""},
		{"pull", "podman", 0, 0, "too many requests"},
	} {
		t.Run(fmt.Sprintf("%s %s, queue of %d, busy for %v", test.engine, test.command, test.queue, test.busy), func(t *testing.T) {
			queues := map[string]int{"push": 10, "pull": 10}
			queues[test.command] = test.queue
			s := serveLimited(t, "REGISTRY_REQUESTS_WRITE_MAXRUNNING=1", fmt.Sprint("REGISTRY_REQUESTS_WRITE_MAXINQUEUE=", queues["push"]),
				"REGISTRY_REQUESTS_BLOBS_MAXRUNNING=1", fmt.Sprint("REGISTRY_REQUESTS_BLOBS_MAXINQUEUE=", queues["pull"]))
			try, image := engines[test.engine], s.Addr+"/team/app:1"
			do := func(args ...string) {
				t.Helper()
				_, err := try(args...)
				must(t, err)
			}
			do("build", "--tag", image, buildContext(t, 4<<20))
			var free func()
			if test.command == "pull" {
				do("push", image)
				do("rmi", image)
				large := content.Random("large", 64<<20)
				must(t, s.PushBlob("occupied/slot", large))
				free = s.occupyDownload("occupied/slot", large)
			} else {
				free = s.occupy()
			}
			defer free()
			if test.busy > 0 {
				time.AfterFunc(test.busy, free)
			}
			start := time.Now()
			var err error
			n := s.refused(func() { _, err = try(test.command, image) })
			t.Logf("%v with %d requests turned away: %v", time.Since(start).Round(100*time.Millisecond), n, err)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("gave %v, not %q", err, test.want)
			}
			if (n == 0) != (test.queue > 0) {
				t.Errorf("%d requests were turned away", n)
			}
		})
	}
}
