package admin

import (
	"time"

	"berth/registry/health"
)

// A Status is what a server says of itself, the answer to GET /v1/status.
type Status struct {
	Version       string        `json:"version"`
	PID           int           `json:"pid"`
	Started       time.Time     `json:"started"`
	Configuration string        `json:"configuration"` // the file
	Addresses     []string      `json:"addresses"`
	TLS           bool          `json:"tls"`
	Storage       Storage       `json:"storage"`
	Health        health.Report `json:"health"`
	Auth          string        `json:"auth"`
	ReadOnly      ReadOnly      `json:"read_only"`
	Requests      []Class       `json:"requests"` // being served now
	Limits        []Limit       `json:"limits"`
	Receiving     int           `json:"receiving"`    // bodies of blobs, now
	Uploads       *Uploads      `json:"uploads"`      // nil when they could not be counted
	Certificates  []Certificate `json:"certificates"` // in the order of the configuration
}

// Storage is where content is, and how that is.
type Storage struct {
	Driver  string `json:"driver"`
	Place   string `json:"place,omitempty"`
	Ready   bool   `json:"ready"`
	Problem string `json:"problem,omitempty"` // when it is not ready
}

// ReadOnly is whether changes are refused. Where On is not Configured, a command switched it.
type ReadOnly struct {
	On         bool `json:"on"`
	Configured bool `json:"configured"`
}

// A Class is requests of one kind. Without a MaxRunning there is no bound, and none waits.
type Class struct {
	Name       string `json:"name"`
	Running    int    `json:"running"`
	Waiting    int    `json:"waiting"`
	MaxRunning int    `json:"max_running"`
	MaxWaiting int    `json:"max_waiting"`
}

// A Limit is something that requests are bounded by.
type Limit struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Uploads are those of blobs that were begun and neither finished nor cancelled.
type Uploads struct {
	Open int  `json:"open"`
	More bool `json:"more"` // not all were looked at
}

// A Certificate is one that the server shows.
type Certificate struct {
	Setting string    `json:"setting"` // the key of the configuration
	Names   []string  `json:"names"`
	Expires time.Time `json:"expires"`
}

// A Switch is the body of PUT /v1/readonly, which answers with [ReadOnly] as GET does.
type Switch struct {
	On bool `json:"on"`
}

// Reloaded is what a reload did, the answer to POST /v1/reload.
type Reloaded struct {
	Changed  []string `json:"changed"` // keys whose values are in force now
	Restart  []string `json:"restart"` // keys whose values differ from those at the start, and wait for a restart
	Warnings []string `json:"warnings"`
	ReadOnly ReadOnly `json:"read_only"`
}

// A Preview is the body of POST /v1/reload/preview, a configuration that may come, which is answered as a reload would be. Nothing
// changes.
type Preview struct {
	Name string `json:"name"` // of its file, for errors
	Text string `json:"text"`
}

// LogLevel is the least severe level that is logged. Where Level is not Configured, a command switched it.
type LogLevel struct {
	Level      string `json:"level"`
	Configured string `json:"configured"`
}

// Level is the body of PUT /v1/loglevel, which answers with [LogLevel] as GET does.
type Level struct {
	Level string `json:"level"`
}

// LogLevels are all levels, the most severe first.
func LogLevels() []string { return []string{"error", "warn", "info", "debug"} }
