package admin

import (
	"time"

	"berth/registry/gc"
)

// A GCRequest is the body of POST /v1/gc/run.
type GCRequest struct {
	DryRun bool `json:"dry_run"`
	Fast   bool `json:"fast"` // without holding back for requests
}

// A GCLine is a line of the answer to POST /v1/gc/run: what goes, how far the run is, and, as the last, what it did.
type GCLine struct {
	Finding  *gc.Finding `json:"finding,omitempty"` // of a dry run alone
	Progress *gc.Report  `json:"progress,omitempty"`
	Report   *gc.Report  `json:"report,omitempty"`
}

// A GCStatus is the answer to GET /v1/gc/status.
type GCStatus struct {
	Enabled  bool       `json:"enabled"`
	Schedule string     `json:"schedule"` // gc.schedule, or "every" and gc.interval
	Grace    string     `json:"grace"`
	Next     time.Time  `json:"next,omitzero"` // about when
	Running  *gc.Report `json:"running"`       // what a run that this process has under way did so far
	Last     *gc.Report `json:"last"`          // the last run of any replica that came to its end
}

// DefaultHistory is how many runs GET /v1/gc/history tells of when it is not asked for n, the newest ones.
const DefaultHistory = 10

// A Removal is the answer to DELETE /v1/repositories/{name}.
type Removal struct {
	Manifests int `json:"manifests"`
	Tags      int `json:"tags"` // that no manifest led to
	Links     int `json:"links"`
	Later     int `json:"later"` // links that stay until the collection, see [registry.RemoveResult]
}

// A PurgeRequest is the body of POST /v1/purge.
type PurgeRequest struct {
	Digest string `json:"digest"`
	Refuse bool   `json:"refuse"` // from now on
	Allow  bool   `json:"allow"`  // in place of all else: let it be pushed again
}

// A Purged is the answer to POST /v1/purge.
type Purged struct {
	Links     []string `json:"links"`     // repositories that could serve the blob
	Manifests []string `json:"manifests"` // repositories that had it as a manifest
	Objects   int      `json:"objects"`
	Bytes     int64    `json:"bytes"`
}
