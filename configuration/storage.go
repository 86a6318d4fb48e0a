package configuration

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"berth/configuration/strict"
)

// Storage is the section storage. Exactly one of its drivers is not nil.
type Storage struct {
	// Keeps content in a folder.
	Filesystem *Filesystem `yaml:"filesystem" choice:"required"`
	// Keeps content in memory, until the process ends.
	InMemory *InMemory `yaml:"inmemory" choice:"required"`
	// Keeps content in a folder that is emptied at every start, without waiting for the disk.
	EmptyDir *EmptyDir `yaml:"emptydir" choice:"required"`
	// Keeps content in a bucket of S3, or of a service that speaks its protocol.
	S3 *S3 `yaml:"s3" choice:"required"`
	// Keeps content in a bucket of Google Cloud Storage.
	GCS *GCS `yaml:"gcs" choice:"required"`
	// Keeps content in a container of Azure Blob Storage.
	Azure *Azure `yaml:"azure" choice:"required"`
	// How many processes serve this storage; 0 means that it was not said. With 1, a bucket without conditional puts is
	// served; with more, a storage that only one process can serve is refused.
	Replicas int `yaml:"replicas" default:"0"`
	// Deleting through the API.
	Delete Delete `yaml:"delete"`
	// Sending clients to the storage itself for the content of blobs, where it has URLs for that.
	Redirect Redirect `yaml:"redirect"`
	// What the registry keeps in memory of the storage.
	Cache Cache `yaml:"cache"`
	// Chores, and the switch that stops writing.
	Maintenance Maintenance `yaml:"maintenance"`
}

// Driver returns the key of the driver that is configured, such as "filesystem".
func (s Storage) Driver() string {
	switch {
	case s.Filesystem != nil:
		return "filesystem"
	case s.InMemory != nil:
		return "inmemory"
	case s.EmptyDir != nil:
		return "emptydir"
	case s.S3 != nil:
		return "s3"
	case s.GCS != nil:
		return "gcs"
	case s.Azure != nil:
		return "azure"
	}
	return ""
}

// Filesystem is the section storage.filesystem.
type Filesystem struct {
	// The folder.
	RootDirectory string `yaml:"rootdirectory" default:"/var/lib/registry"`
	// Lets several processes serve the same folder, such as a ReadWriteMany volume. Without it, the folder is locked.
	Shared bool `yaml:"shared" default:"false"`
	// How long a start waits for the process before it to release the folder.
	LockWait time.Duration `yaml:"lockwait" default:"30s"`
}

// InMemory is the section storage.inmemory, which has no keys.
type InMemory struct{}

// EmptyDir is the section storage.emptydir.
type EmptyDir struct {
	// The folder. One that holds anything that Berth did not put there is refused, not emptied.
	RootDirectory string `yaml:"rootdirectory" default:"/var/lib/registry"`
	// The most bytes kept; 0 means as many as fit.
	SizeLimit Size `yaml:"sizelimit" default:"0"`
}

// Delete is the section storage.delete.
type Delete struct {
	// Allows manifests, tags and blobs to be deleted.
	Enabled bool `yaml:"enabled" default:"false"`
}

// Redirect is the section storage.redirect.
type Redirect struct {
	// Sends nobody: all content passes through the registry.
	Disable bool `yaml:"disable" default:"false"`
	// How long a URL is good for, once given; a download that began may take longer. At most 168h.
	Expiry time.Duration `yaml:"expiry" default:"20m" min:"1s"`
	// Clients that are not sent, such as those who cannot reach the storage.
	Except []RedirectException `yaml:"except" example:"[{networks: [10.0.0.0/8], useragents: ['^Go-http-client/']}]"`
}

// RedirectException is an entry of storage.redirect.except: clients who fit all that is given.
type RedirectException struct {
	// The networks that they are in, as the registry sees their addresses.
	Networks []string `yaml:"networks"`
	// Regular expressions, one of which their User-Agent contains.
	UserAgents []string `yaml:"useragents"`
}

// Cache is the section storage.cache.
type Cache struct {
	// The memory for records (tags, manifests, links); 0 means none.
	Size Size `yaml:"size" default:"64MiB"`
}

// Maintenance is the section storage.maintenance.
type Maintenance struct {
	// The removal of uploads that were begun and never finished.
	UploadPurging UploadPurging `yaml:"uploadpurging"`
	// The registry as something to pull from only.
	ReadOnly ReadOnly `yaml:"readonly"`
}

// UploadPurging is the section storage.maintenance.uploadpurging.
type UploadPurging struct {
	// Removes abandoned uploads.
	Enabled bool `yaml:"enabled" default:"true"`
	// How long an upload must have been idle.
	Age time.Duration `yaml:"age" default:"168h" min:"1s"`
	// The time between two searches.
	Interval time.Duration `yaml:"interval" default:"24h" min:"1s"`
	// Logs what would be removed, and removes nothing.
	DryRun bool `yaml:"dryrun" default:"false"`
}

// ReadOnly is the section storage.maintenance.readonly.
type ReadOnly struct {
	// Refuses every request that would change something.
	Enabled bool `yaml:"enabled" default:"false"`
}

// check refuses several replicas where there can be one only.
func (s Storage) check(c strict.Checking) {
	if s.Replicas <= 1 {
		return
	}
	switch {
	case s.InMemory != nil:
		c.Fail("replicas", "several processes cannot share inmemory")
	case s.EmptyDir != nil:
		c.Fail("replicas", "several processes cannot share emptydir")
	case s.Filesystem != nil && !s.Filesystem.Shared:
		c.Fail("replicas", "several processes can serve a folder only with storage.filesystem.shared: true")
	}
}

func (r Redirect) check(c strict.Checking) {
	if r.Expiry > 7*24*time.Hour {
		c.Fail("expiry", "must be at most 168h, the longest that storages sign for, not %v", r.Expiry)
	}
}

func (e RedirectException) check(c strict.Checking) {
	if len(e.Networks)+len(e.UserAgents) == 0 {
		c.Fail("", "must have networks or useragents; to send nobody, write storage.redirect.disable: true")
	}
	for i, network := range e.Networks {
		if _, err := netip.ParsePrefix(network); err != nil {
			c.Fail("networks["+strconv.Itoa(i)+"]", "must be a network such as 10.0.0.0/8, not %s", strict.Quote(network))
		}
	}
	for i, expression := range e.UserAgents {
		if _, err := regexp.Compile(expression); err != nil {
			c.Fail("useragents["+strconv.Itoa(i)+"]", "must be a regular expression: %v", err)
		}
	}
}

func (s Filesystem) check(c strict.Checking) { checkRoot(c, s.RootDirectory) }

func (s EmptyDir) check(c strict.Checking) { checkRoot(c, s.RootDirectory) }

func checkRoot(c strict.Checking, folder string) {
	if folder == "" || strings.ContainsRune(folder, 0) {
		c.Fail("rootdirectory", "must be the path of a folder, not %s", strict.Quote(folder))
	}
}
