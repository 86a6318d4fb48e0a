package metrics

import (
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
	storageTook   *summaries
	storageErrors [storeCalls][storeErrors]prometheus.Counter
	took          [storeCalls]prometheus.Observer
	failures      [storeCalls][storeErrors]prometheus.Counter
	lookups       [records][2]cacheFigures // missed, hit
}

// cacheFigures of a lookup: our own, and that of the OpenShift registry, nil where it has none.
type cacheFigures struct{ ours, theirs prometheus.Counter }

func newStore(r *prometheus.Registry, now func() time.Time) (s store) {
	s.storageTook = register(r, newSummaries("imageregistry_storage_duration_seconds",
		"A histogram of latencies of calls of the storage.", float64(time.Second), now, "operation", driverNames[:]...))
	theirs := counters(r, "imageregistry_storage_errors_total", "Total number of errors of the storage by operation and code.",
		"operation", "code")
	ours := counters(r, "berth_storage_errors_total", "Calls of the storage that failed, by call and reason.", "call", "error")
	took := register(r, prometheus.NewHistogramVec(durationHistogram("berth_storage_call_duration_seconds",
		"How long calls of the storage took, by call."), []string{"call"}))
	for c := range storeCalls {
		s.took[c] = took.WithLabelValues(callNames[c])
		for e := NoError + 1; e < storeErrors; e++ {
			s.storageErrors[c][e] = theirs.WithLabelValues(driverNames[c], codeNames[e])
			s.failures[c][e] = ours.WithLabelValues(callNames[c], errorNames[e])
		}
	}
	s.nameLookups(r)
	return s
}

func (s *store) nameLookups(r *prometheus.Registry) {
	ours := counters(r, "berth_cache_requests_total", "Lookups in the cache of records, by kind of record and whether it was there.", "record", "result")
	global := counters(r, "imageregistry_digest_cache_requests_total", "Total number of requests without scope to the digest cache.", "type")
	scoped := counters(r, "imageregistry_digest_cache_scoped_requests_total", "Total number of scoped requests to the digest cache.", "type")
	for k := range records {
		s.lookups[k] = [2]cacheFigures{{ours: ours.WithLabelValues(recordNames[k], "miss")}, {ours: ours.WithLabelValues(recordNames[k], "hit")}}
		if theirs := map[Record]*prometheus.CounterVec{BlobRecord: global, LinkRecord: scoped, ManifestRecord: scoped}[k]; theirs != nil {
			s.lookups[k][0].theirs, s.lookups[k][1].theirs = theirs.WithLabelValues("Miss"), theirs.WithLabelValues("Hit")
		}
	}
}

// StoreCalled counts a call of the storage.
func (m *Metrics) StoreCalled(c StoreCall, took time.Duration, e StoreError) {
	m.storageTook.observe(int(c), int64(took))
	m.took[c].Observe(took.Seconds())
	if e != NoError {
		m.storageErrors[c][e].Inc()
		m.failures[c][e].Inc()
	}
}

// LookedUp counts a lookup in the cache of records.
func (m *Metrics) LookedUp(k Record, hit bool) {
	which := 0
	if hit {
		which = 1
	}
	f := m.lookups[k][which]
	f.ours.Inc()
	if f.theirs != nil {
		f.theirs.Inc()
	}
}
