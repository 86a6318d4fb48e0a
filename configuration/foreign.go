package configuration

import (
	"reflect"
	"slices"
	"strings"
)

// A verdict says what becomes of a key that is known from another registry and not implemented here.
type verdict uint8

const (
	accepted verdict = iota // it asks for what is so anyhow
	ignored                 // leaving it out harms nobody: one warning
	refused                 // it restricts access or changes what the server is: an error
)

// A foreignKey is a row for a key, and all below it, of CNCF distribution (2 and 3) or of the OpenShift registry.
//
// A value that asks for nothing (none, empty, 0 or false, a list of what is disabled) is accepted in silence whatever the
// verdict; so is, instead of these, the value in unless. choice marks an alternative of its section, which asks for
// something by being there.
type foreignKey struct {
	path    string
	verdict verdict
	choice  bool
	unless  string
	why     string
}

// Parts of reasons: notYet begins that of a key that a later version may have, and says what would go wrong without it.
const (
	notYet    = "not implemented in this version: "
	openToAll = "without it everybody could do everything"
)

var foreignKeys = []foreignKey{
	{path: "log.hooks", verdict: ignored, why: "Berth sends no mail about its log"},
	{path: "reporting", verdict: ignored, why: "errors are in the log, and nowhere else"},
	{path: "compatibility.schema1.trustkey", verdict: ignored, why: "Docker schema 1 is not taken any more"},
	{path: "compatibility.schema1.enabled", verdict: refused, why: "Docker schema 1 is not taken any more; push such images again by a client of today"},

	{path: "storage.s3.v4auth", verdict: refused, unless: "true", why: "signatures of version 2 are not made any more"},
	{path: "storage.s3.objectacl", verdict: refused, unless: "private", why: "objects are for Berth alone"},
	{path: "storage.s3.multipartcopychunksize", verdict: accepted, why: "nothing is ever copied"},
	{path: "storage.s3.multipartcopymaxconcurrency", verdict: accepted, why: "nothing is ever copied"},
	{path: "storage.s3.multipartcopythresholdsize", verdict: accepted, why: "nothing is ever copied"},
	{path: "storage.s3.loglevel", verdict: ignored, unless: "off", why: "requests to the service are not logged"},
	{path: "storage.s3.cloudfront.ipfilteredby", verdict: ignored, unless: "none", why: "every client is redirected alike"},
	{path: "storage.s3.cloudfront.awsregion", verdict: ignored, why: "every client is redirected alike"},
	{path: "storage.s3.cloudfront.updatefrequency", verdict: ignored, why: "every client is redirected alike"},
	{path: "storage.s3.cloudfront.iprangesurl", verdict: ignored, why: "every client is redirected alike"},
	{path: "storage.s3.cloudfront.urlsigningmethod", verdict: ignored, why: "URLs are signed, cookies are not"},
	{path: "storage.gcs.maxconcurrency", verdict: accepted, why: "requests.read and requests.write are the bounds"},
	{path: "storage.azure.max_retries", verdict: accepted, why: "nothing is ever copied"},
	{path: "storage.azure.retry_delay", verdict: accepted, why: "nothing is ever copied"},
	{path: "storage.azure.connectionstring", verdict: ignored, why: "accountname, accountkey and serviceurl say the same"},
	{path: "storage.oss", verdict: refused, choice: true, why: "there is no OSS storage"},
	{path: "storage.swift", verdict: refused, choice: true, why: "there is no Swift storage"},
	{path: "storage.filesystem.maxthreads", verdict: ignored, why: "Berth needs no limit on its threads"},
	{path: "storage.cache.blobdescriptor", verdict: ignored, unless: "inmemory",
		why: "records are kept in memory; see storage.cache.size"},
	{path: "storage.cache.layerinfo", verdict: ignored, unless: "inmemory", why: "records are kept in memory"},
	{path: "storage.cache.blobdescriptorsize", verdict: accepted, why: "storage.cache.size is the bound, in bytes"},
	{path: "storage.tag", verdict: ignored, why: "no request searches all tags"},

	{path: "auth.openshift", verdict: refused, choice: true, why: notYet + openToAll},
	{path: "auth.silly", verdict: refused, choice: true, why: "it lets everybody in; write auth: none if that is meant"},

	{path: "http.tls.letsencrypt", verdict: refused, why: notYet + "without it there would be no certificate"},
	{path: "http.h2c", verdict: ignored, why: "clients use HTTP/1.1"},

	{path: "validation.enabled", verdict: ignored, unless: "true", why: "write validation.disabled to turn it off"},
	{path: "policy", verdict: refused, why: notYet + "without it any class of content would be accepted"},
	{path: "proxy", verdict: refused, why: notYet + "without it the server would be no mirror but an empty registry"},
	{path: "notifications.events", verdict: ignored, why: "there are no notifications in this version"},
	{path: "notifications.endpoints", verdict: refused, why: notYet + "its endpoints would wait for events in vain"},
	{path: "redis", verdict: ignored, why: "Berth needs no Redis, also with several replicas"},

	{path: "middleware.storage", verdict: ignored, why: "only cloudfront, with storage.s3, has a meaning here"},
	{path: "middleware.registry", verdict: refused, why: "what it does to requests is not known here"},
	{path: "middleware.repository", verdict: refused, why: "what it does to requests is not known here"},

	{path: "openshift.version", verdict: accepted, why: "of that section only"},
	{path: "openshift.kubeconfig", verdict: ignored, why: "Berth asks no Kubernetes API"},
	{path: "openshift.server", verdict: ignored, why: "see http.host"},
	{path: "openshift.cache", verdict: ignored, why: "see storage.cache.size"},
	{path: "openshift.auth", verdict: refused, why: notYet + openToAll},
	{path: "openshift.audit", verdict: refused, why: notYet + "without it there is no record of who did what"},
	{path: "openshift.quota", verdict: refused, why: notYet + "without it there are no quotas"},
	{path: "openshift.pullthrough", verdict: refused, why: notYet + "without it nothing is fetched from elsewhere"},
	{path: "openshift.compatibility.acceptschema2", verdict: refused, unless: "true",
		why: "Docker schema 2 is always accepted"},
}

// otherNames are sections that have another name in another registry, where they mean the same.
var otherNames = []struct{ other, key string }{
	{"openshift.metrics", "metrics"},
	{"openshift.requests", "requests"},
	{"storage.s3aws", "storage.s3"},
}

// rename gives sections under another name the name that they have here. A section under both names is an error.
func (r *report) rename(root *tree) {
	for _, n := range otherNames {
		path := strings.Split(n.other, ".")
		parent, last := root, path[len(path)-1]
		for _, key := range path[:len(path)-1] {
			if parent != nil {
				parent = parent.get(key)
			}
		}
		if parent == nil {
			continue
		}
		for _, e := range parent.entries {
			if e.key != last || e.value.kind == null {
				continue
			}
			if section := root.addAll(n.key, e.value.source); section.kind == null {
				*section = *e.value
			} else {
				r.fail(e.value.source, n.other, "is another name of %s (%s); keep one", n.key, section.source)
			}
		}
		parent.remove(last)
	}
}

// fieldNames are the parts of keys that have another name in variables: distribution goes by its Go fields there.
// Among them is the old name of log.level.
var fieldNames = []struct{ field, key string }{
	{"notifications.eventconfig", "notifications.events"},
	{"health.filecheckers", "health.file"},
	{"health.httpcheckers", "health.http"},
	{"health.tcpcheckers", "health.tcp"},
	{"redis.options", "redis"},
	{"loglevel", "log.level"},
	{"openshift.metrics", "metrics"},
	{"openshift.requests", "requests"},
	{"storage.s3aws", "storage.s3"},
}

// choices returns the keys that are alternatives of a section, also those that are not implemented.
func choices(path string, section reflect.Type) []string {
	var all []string
	for _, f := range fields(section) {
		if f.choice != "" {
			all = append(all, f.key)
		}
	}
	for _, f := range foreignKeys {
		if key, ok := strings.CutPrefix(f.path, path+"."); ok && f.choice {
			all = append(all, key)
		}
	}
	return all
}

// foreign judges a key that no section has.
func (d *decoder) foreign(t *tree, path string) {
	i := slices.IndexFunc(foreignKeys, func(f foreignKey) bool { return f.path == path })
	if i < 0 {
		d.foreignSection(t, path)
		return
	}
	f := foreignKeys[i]
	asking := f.asks(t)
	if asking == nil {
		return
	}
	switch f.verdict {
	case ignored:
		d.warn(asking.source, path, "ignored: %s", f.why)
	case refused:
		d.fail(asking.source, path, "%s", f.why)
	}
}

// foreignSection judges a key that has no row of its own: either rows lie below it, or it is unknown.
func (d *decoder) foreignSection(t *tree, path string) {
	rowsBelow := slices.ContainsFunc(foreignKeys, func(f foreignKey) bool { return strings.HasPrefix(f.path, path+".") })
	switch {
	case !rowsBelow && !d.full():
		d.fail(t.source, path, "unknown key; the nearest is %s", nearest(withoutIndices(path), known()))
	case t.kind == mapping:
		for _, e := range t.entries {
			d.foreign(e.value, join(path, e.key))
		}
	case t.kind != null:
		d.fail(t.source, path, "must be a section such as {key: value}, not %v", t)
	}
}

// asks returns the first value in t that asks for something, or nil.
func (f foreignKey) asks(t *tree) *tree {
	if f.choice {
		return t
	}
	for _, e := range t.entries {
		if asking := f.asks(e.value); asking != nil {
			return asking
		}
	}
	switch {
	case t.kind == list:
		if slices.ContainsFunc(t.items, func(item *tree) bool { return !item.disabled() }) {
			return t
		}
		return nil
	case t.kind != scalar:
		return nil
	case f.unless != "" && !strings.EqualFold(t.text, f.unless):
		return t
	case f.unless == "" && !slices.Contains([]string{"", "0", "false", "no", "off"}, strings.ToLower(t.text)):
		return t
	}
	return nil
}

// disabled reports whether t is an element of a list, as an endpoint, that says it is off.
func (t *tree) disabled() bool {
	off := t.get("disabled")
	if off == nil {
		return false
	}
	is, err := parseBool(off.text)
	return err == nil && is
}

// withoutIndices writes the elements of lists in a full key as known does.
func withoutIndices(path string) string {
	var out strings.Builder
	inside := false
	for _, r := range path {
		inside = inside && r != ']'
		if !inside {
			out.WriteRune(r)
		}
		inside = inside || r == '['
	}
	return out.String()
}
