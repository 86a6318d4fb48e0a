package configuration

import (
	"strings"
	"testing"
	"time"
)

func TestRequestsSection(t *testing.T) {
	for name, one := range map[string]struct {
		yaml    string
		environ []string
	}{
		"by its own name": {yaml: "requests: {read: {maxrunning: 7, maxwaitinqueue: 1h}}"},
		"as in OpenShift": {yaml: "openshift: {version: 1.0, requests: {read: {maxrunning: 7, maxwaitinqueue: 1h}}}"},
		"by variables":    {environ: []string{"REGISTRY_REQUESTS_READ_MAXRUNNING=7", "REGISTRY_REQUESTS_READ_MAXWAITINQUEUE=1h"}},
		"by OpenShift's variables": {
			environ: []string{"REGISTRY_OPENSHIFT_REQUESTS_READ_MAXRUNNING=7", "REGISTRY_OPENSHIFT_REQUESTS_READ_MAXWAITINQUEUE=1h"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, warnings, err := Parse("c.yml", []byte(minimal+one.yaml), one.environ)
			if err != nil || len(warnings) > 0 {
				t.Fatal(warnings, err)
			}
			if got := c.Requests.Read; got != (Queue{7, 1024, time.Hour}) {
				t.Errorf("read: %+v", got)
			}
			if got := c.Requests.Write; got != (Queue{256, 1024, 30 * time.Second}) || c.Requests.Blobs != nil {
				t.Errorf("write: %+v, blobs: %+v", got, c.Requests.Blobs)
			}
		})
	}
}

func TestRequestsRefused(t *testing.T) {
	for yaml, want := range map[string]string{
		"requests:\n  read:\n    maxrunning: -1":                             "c.yml:5: requests.read.maxrunning: must be at least 0, not \"-1\"",
		"requests:\n  read:\n    maxrunning: many":                           "c.yml:5: requests.read.maxrunning: must be a whole number, not \"many\"",
		"requests:\n  read:\n    maxrun: 1":                                  "c.yml:5: requests.read.maxrun: unknown key; the nearest is requests.read.maxrunning",
		"requests:\n  read:\n    maxrunning: 0\n    maxinqueue: 9":           "c.yml:6: requests.read.maxinqueue: nothing would ever wait",
		"requests:\n  write: {maxrunning: 0, maxwaitinqueue: 1s}":            "c.yml:4: requests.write.maxwaitinqueue: nothing would ever wait",
		"requests:\n  blobs: {maxinqueue: 0,\n    maxwaitinqueue: 1s}":       "c.yml:5: requests.blobs.maxwaitinqueue: nothing would ever wait",
		"requests:\n  write: {maxinqueue: 1000001}":                          "c.yml:4: requests.write.maxinqueue: must be at most 1000000",
		"openshift:\n  requests:\n    write:\n      maxwaitinqueue: 30":      "c.yml:6: requests.write.maxwaitinqueue: must be 0 or at least 1ms, not 30ns",
		"openshift:\n  requests:\n    reed: {maxrunning: 30}":                "c.yml:5: requests.reed: unknown key; the nearest is requests.read",
		"requests: {read: {maxrunning: 1}}\nopenshift: {requests: {read: }}": "c.yml:4: openshift.requests: is another name of requests (c.yml:3); keep one",
		"requests:\n  rate: {user: {burst: 5}}":                              "c.yml:4: requests.rate.user.burst: has no meaning",
		"requests:\n  rate: {address: {persecond: 1.5}}":                     "c.yml:4: requests.rate.address.persecond: must be a whole number",
		"requests:\n  maxblobsize: 1KiB":                                     "c.yml:4: requests.maxblobsize: must be 0 or at least 1MiB, not 1KiB",
		"http:\n  maxconnections: -5":                                        "c.yml:4: http.maxconnections: must be at least 0",
	} {
		_, _, err := Parse("c.yml", []byte(minimal+yaml), nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngave %v\nwant %s", yaml, err, want)
		}
	}
}
