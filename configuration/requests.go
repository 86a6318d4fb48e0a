package configuration

import (
	"time"

	"berth/configuration/strict"
)

// Requests is the section requests. Its limits change at a reload, without a request being cut.
type Requests struct {
	// Requests that ask: GET, HEAD and OPTIONS, but for the bodies of blobs larger than 64KiB.
	Read Queue `yaml:"read"`
	// Requests that change something: all others.
	Write Queue `yaml:"write"`
	// The bodies of blobs larger than 64KiB, which are sent as fast as the client takes them. Without this section the
	// limits of `read` hold for them too, counted apart.
	Blobs *Queue `yaml:"blobs"`
	// How often one client may ask.
	Rate Rates `yaml:"rate"`
	// The bodies of blobs that one user, or one address without a user, may be sending at a time; 0 means any number.
	MaxUploads int `yaml:"maxuploads" default:"100"`
	// The size of the largest blob that can be pushed; 0 means any size.
	MaxBlobSize Size `yaml:"maxblobsize" default:"0"`
}

// Queue is the section requests.read, and others like it.
type Queue struct {
	// How many are served at a time; 0 means any number.
	MaxRunning int `yaml:"maxrunning" default:"256"`
	// How many more wait for their turn while so many are served; 0 means none. Others are answered 429.
	MaxInQueue int `yaml:"maxinqueue" default:"1024"`
	// How long each of them waits before it is answered 429; 0 means as long as the client stays.
	MaxWaitInQueue time.Duration `yaml:"maxwaitinqueue" default:"30s"`
}

// Rates is the section requests.rate.
type Rates struct {
	// Requests from one address, with or without a user; those of an IPv6 network of 64 bits count together. Behind a proxy
	// all requests have the address of the proxy.
	Address Rate `yaml:"address"`
	// Requests of one user.
	User Rate `yaml:"user"`
}

// Rate is the section requests.rate.address, and others like it.
type Rate struct {
	// The requests per second on average; 0 means any number.
	PerSecond int `yaml:"persecond" default:"0"`
	// How many may come at once after a pause; 0 means as many as in ten seconds.
	Burst int `yaml:"burst" default:"0"`
}

// maxQueue bounds queues: each request that waits takes some 20 KiB of memory.
const maxQueue = 1_000_000

func (q Queue) check(c strict.Checking) {
	switch {
	case q.MaxRunning == 0 && c.Given("maxinqueue") && q.MaxInQueue > 0:
		c.Fail("maxinqueue", "nothing would ever wait, since maxrunning is 0, which is no limit")
	case q.MaxRunning == 0 && c.Given("maxwaitinqueue") && q.MaxWaitInQueue > 0,
		q.MaxInQueue == 0 && c.Given("maxwaitinqueue") && q.MaxWaitInQueue > 0:
		c.Fail("maxwaitinqueue", "nothing would ever wait, since maxrunning or maxinqueue is 0")
	case q.MaxInQueue > maxQueue:
		c.Fail("maxinqueue", "must be at most %d: what waits takes memory", maxQueue)
	case q.MaxWaitInQueue > 0 && q.MaxWaitInQueue < time.Millisecond:
		c.Fail("maxwaitinqueue", "must be 0 or at least 1ms, not %s", strict.FormatDuration(q.MaxWaitInQueue))
	}
}

func (r Rate) check(c strict.Checking) {
	if r.PerSecond == 0 && r.Burst > 0 {
		c.Fail("burst", "has no meaning, since persecond is 0, which is no limit")
	}
}

func (r Requests) check(c strict.Checking) {
	const least = Size(1 << 20)
	if r.MaxBlobSize > 0 && r.MaxBlobSize < least {
		c.Fail("maxblobsize", "must be 0 or at least %v, not %v: hardly an image could be pushed", least, r.MaxBlobSize)
	}
}
