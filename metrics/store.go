package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A StoreCall is what is asked of the storage.
type StoreCall uint8

// The calls. Records are small and are looked for all the time; data is the bytes of blobs.
const (
	ReadRecord StoreCall = iota
	ReadData             // until there is a reader
	Stat
	WriteRecord // one or several at once
	WriteData   // from the first byte to durable: the client may be what is slow
	Remove
	List
	storeCalls
)

// A StoreError is why a call of the storage failed.
type StoreError uint8

// The errors.
const (
	NoError StoreError = iota // done; also what is no fault: a condition that did not hold, a client that left
	NotFound
	InvalidKey
	ReadOnlyFilesystem
	FileTooLarge
	NoSpace
	StoreUnavailable
	UnknownError
	storeErrors
)

// The names here and in the OpenShift registry.
var (
	callNames   = [storeCalls]string{"read_record", "read_data", "stat", "write_record", "write_data", "delete", "list"}
	driverNames = [storeCalls]string{"StorageDriver.GetContent", "StorageDriver.Reader", "StorageDriver.Stat",
		"StorageDriver.PutContent", "StorageDriver.Writer", "StorageDriver.Delete", "StorageDriver.List"}
	errorNames = [storeErrors]string{"", "not_found", "invalid_key", "read_only", "too_large", "no_space", "unavailable", "unknown"}
	codeNames  = [storeErrors]string{"", "PATH_NOT_FOUND", "INVALID_PATH", "READ_ONLY_FILESYSTEM", "FILE_TOO_LARGE",
		"DEVICE_OUT_OF_SPACE", "UNKNOWN", "UNKNOWN"}
)

// A Record is a kind of what the cache of the storage is asked for.
type Record uint8

// The kinds of records.
const (
	OtherRecord Record = iota
	BlobRecord
	LinkRecord
	ManifestRecord
	TagRecord
	ReferrersRecord
	CatalogRecord
	UploadRecord
	Listing // the names in a folder
	records
)

var recordNames = [records]string{"other", "blob", "link", "manifest", "tag", "referrers", "catalog", "upload", "listing"}

// store are the figures of the storage.
type store struct {
	calls    [storeCalls]call
	took     [storeCalls]prometheus.Observer
	lookups  [records][2]atomic.Uint64 // missed, hit
	now      func() time.Time
	reading  sync.Mutex
	families storeFamilies
}

// A call is all calls of one kind.
type call struct {
	took   summary
	errors [storeErrors]atomic.Uint64 // also those that are none
}

// storeFamilies describes what is worked out when it is asked for.
type storeFamilies struct {
	durations, failures, lookups *prometheus.Desc
	theirFailures                *prometheus.Desc // of the OpenShift registry, as the next two
	global, scoped               *prometheus.Desc
}

// register registers all figures of s.
func (s *store) register(r *prometheus.Registry, now func() time.Time) {
	s.now = now
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	s.families = storeFamilies{
		durations: desc("imageregistry_storage_duration_seconds", "A histogram of latencies of calls of the storage.", "operation"),
		theirFailures: desc("imageregistry_storage_errors_total", "Total number of errors of the storage by operation and code.",
			"operation", "code"),
		failures: desc("berth_storage_errors_total", "Calls of the storage that failed, by call and reason.", "call", "error"),
		lookups: desc("berth_cache_requests_total", "Lookups in the cache of records, by kind of record and whether it was there.",
			"record", "result"),
		global: desc("imageregistry_digest_cache_requests_total", "Total number of requests without scope to the digest cache.", "type"),
		scoped: desc("imageregistry_digest_cache_scoped_requests_total", "Total number of scoped requests to the digest cache.", "type"),
	}
	took := register(r, prometheus.NewHistogramVec(durationHistogram("berth_storage_call_duration_seconds",
		"How long calls of the storage took, by call."), []string{"call"}))
	for c := range storeCalls {
		s.took[c] = took.WithLabelValues(callNames[c])
		s.calls[c].took.turned = now()
	}
	r.MustRegister(s)
}

// StoreCalled counts a call of the storage.
func (m *Metrics) StoreCalled(c StoreCall, took time.Duration, e StoreError) {
	m.calls[c].took.observe(int64(took))
	m.calls[c].errors[e].Add(1)
	m.store.took[c].Observe(took.Seconds())
}

// LookedUp counts a lookup in the cache of records.
func (m *Metrics) LookedUp(k Record, hit bool) {
	if hit {
		m.lookups[k][1].Add(1)
	} else {
		m.lookups[k][0].Add(1)
	}
}

// Describe is part of [prometheus.Collector].
func (s *store) Describe(descs chan<- *prometheus.Desc) {
	f := s.families
	for _, d := range []*prometheus.Desc{f.durations, f.failures, f.lookups, f.theirFailures, f.global, f.scoped} {
		descs <- d
	}
}

// Collect is part of [prometheus.Collector].
func (s *store) Collect(all chan<- prometheus.Metric) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for c := range s.calls {
		s.calls[c].collect(s.families, StoreCall(c), s.now(), all)
	}
	s.collectLookups(all)
}

func (c *call) collect(f storeFamilies, kind StoreCall, now time.Time, all chan<- prometheus.Metric) {
	count := uint64(0)
	codes := map[string]uint64{} // several errors of ours are one of theirs
	for e := range c.errors {
		n := c.errors[e].Load()
		if count += n; StoreError(e) != NoError {
			codes[codeNames[e]] += n
			all <- counter(f.failures, n, callNames[kind], errorNames[e])
		}
	}
	for code, n := range codes {
		all <- counter(f.theirFailures, n, driverNames[kind], code)
	}
	if count > 0 {
		var times tally
		c.took.addTo(now, count, &times)
		all <- times.metric(f.durations, float64(time.Second), driverNames[kind])
	}
}

func (s *store) collectLookups(all chan<- prometheus.Metric) {
	for i, result := range [2]string{"miss", "hit"} {
		var found [records]uint64
		for k := range records {
			found[k] = s.lookups[k][i].Load()
			all <- counter(s.families.lookups, found[k], recordNames[k], result)
		}
		theirs := [2]string{"Miss", "Hit"}[i]
		all <- counter(s.families.global, found[BlobRecord], theirs)
		all <- counter(s.families.scoped, found[LinkRecord]+found[ManifestRecord], theirs)
	}
}
