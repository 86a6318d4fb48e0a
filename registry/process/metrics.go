package process

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"runtime/debug"
	"syscall"

	"berth/configuration"
	"berth/metrics"
	"berth/registry"
	"berth/registry/server"
	"berth/storage"
	"berth/storage/measured"
	"berth/storage/open"
)

// newMetrics returns nil when nobody may read them.
func newMetrics(c *configuration.Config, version string) *metrics.Metrics {
	if !c.Measured() {
		return nil
	}
	return metrics.New(metrics.Options{Version: version, Commit: commit()})
}

// count counts what took effect while the server ran, or why it did not.
func (p process) count(what metrics.Reloadable, source string, err error) {
	if p.metrics != nil {
		p.metrics.Reloaded(what, source, err)
	}
}

// commit is what the binary was built from, "" when that is not known.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// storeOptions says what the keys of the registry are to a storage, and counts what is done with it. failed is told of calls
// that did not do what was asked, for whatever reason.
func storeOptions(m *metrics.Metrics, failed func(error), warn func(string)) open.Options {
	o := open.Options{Data: registry.IsData, Stable: registry.IsStable, Epoch: registry.EpochKey, Warn: warn}
	o.Calls = func(c measured.Call) {
		if c.Err != nil {
			failed(c.Err)
		}
		if m != nil {
			m.StoreCalled(storeCall(c), c.Took, storeError(c.Err))
		}
	}
	if m != nil {
		o.Cache = func(key string, hit bool) { m.LookedUp(recordOf(key), hit) }
	}
	return o
}

func storeCall(c measured.Call) metrics.StoreCall {
	data := registry.IsData(c.Key)
	switch c.Operation {
	case measured.Open:
		if data {
			return metrics.ReadData
		}
		return metrics.ReadRecord
	case measured.Put:
		if data {
			return metrics.WriteData
		}
		return metrics.WriteRecord
	case measured.Delete:
		return metrics.Remove
	case measured.List:
		return metrics.List
	}
	return metrics.Stat
}

// storeError finds the most telling class: some are kinds of others.
func storeError(err error) metrics.StoreError {
	switch {
	case err == nil, errors.Is(err, storage.ErrConflict), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return metrics.NoError
	case isOfBody(err):
		return metrics.NoError
	case errors.Is(err, fs.ErrNotExist):
		return metrics.NotFound
	case errors.Is(err, storage.ErrInvalidKey):
		return metrics.InvalidKey
	case errors.Is(err, storage.ErrReadOnly):
		return metrics.ReadOnlyFilesystem
	case errors.Is(err, syscall.EFBIG):
		return metrics.FileTooLarge
	case errors.Is(err, storage.ErrNoSpace):
		return metrics.NoSpace
	case errors.Is(err, storage.ErrUnavailable):
		return metrics.StoreUnavailable
	}
	return metrics.UnknownError
}

// isOfBody reports whether a client is to blame, which left, say.
func isOfBody(err error) bool {
	_, ok := errors.AsType[*registry.BodyError](err)
	return ok
}

func recordOf(key string) metrics.Record {
	switch registry.KindOf(key) {
	case registry.BlobKind:
		return metrics.BlobRecord
	case registry.LinkKind:
		return metrics.LinkRecord
	case registry.ManifestKind:
		return metrics.ManifestRecord
	case registry.TagKind:
		return metrics.TagRecord
	case registry.ReferrersKind:
		return metrics.ReferrersRecord
	case registry.CatalogKind:
		return metrics.CatalogRecord
	case registry.UploadKind:
		return metrics.UploadRecord
	case registry.FolderKind:
		return metrics.Listing
	}
	return metrics.OtherRecord
}

// measure gives a server its metrics and the listener for debugging, as far as they are configured.
func (p process) measure(o *server.Options, store storage.Driver) error {
	c, m := p.config, p.metrics
	if m != nil {
		o.Metrics = m
		if o.TLS != nil {
			m.WatchCertificates(o.TLS.Expires)
		}
		if disk, ok := storage.As[interface {
			FreeSpace() (free, total uint64, err error)
		}](store); ok {
			m.WatchDisk(disk.FreeSpace)
		}
		if c.Metrics.Enabled {
			o.Scrape = server.Scrape(m.Handler(), server.ScrapeOptions{
				Secret: c.Metrics.Secret.Reveal(), Authenticator: p.guard.Authenticator(), Authorizer: p.guard.Authorizer(),
				Realm: p.guard.Realm(),
			})
		}
	}
	return p.debug(o)
}

func (p process) debug(o *server.Options) error {
	section := p.config.HTTP.Debug
	if section.Addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", section.Addr)
	if err != nil {
		return p.config.At("http.debug.addr", err)
	}
	handler := server.Debug("", nil, p.health)
	if section.Prometheus.Enabled {
		handler = server.Debug(section.Prometheus.Path, p.metrics.Handler(), p.health)
	}
	o.Background = append(o.Background, server.ServeDebug(l, handler, p.log))
	return nil
}
