package configuration

import "berth/configuration/strict"

// Parts of reasons: notYet begins that of a key that a later version may have, and says what would go wrong without it.
const (
	notYet    = "not implemented in this version: "
	openToAll = "without it everybody could do everything"
)

var foreignKeys = []strict.Foreign{
	{Key: "log.hooks", Verdict: strict.Ignored, Why: "Berth sends no mail about its log"},
	{Key: "reporting", Verdict: strict.Ignored, Why: "errors are in the log, and nowhere else"},
	{Key: "compatibility.schema1.trustkey", Verdict: strict.Ignored, Why: "Docker schema 1 is not taken any more"},
	{Key: "compatibility.schema1.enabled", Verdict: strict.Refused, Why: "Docker schema 1 is not taken any more; push such images again by a client of today"},

	{Key: "storage.s3.v4auth", Verdict: strict.Refused, Unless: "true", Why: "signatures of version 2 are not made any more"},
	{Key: "storage.s3.objectacl", Verdict: strict.Refused, Unless: "private", Why: "objects are for Berth alone"},
	{Key: "storage.s3.multipartcopychunksize", Verdict: strict.Accepted, Why: "nothing is ever copied"},
	{Key: "storage.s3.multipartcopymaxconcurrency", Verdict: strict.Accepted, Why: "nothing is ever copied"},
	{Key: "storage.s3.multipartcopythresholdsize", Verdict: strict.Accepted, Why: "nothing is ever copied"},
	{Key: "storage.s3.loglevel", Verdict: strict.Ignored, Unless: "off", Why: "requests to the service are not logged"},
	{Key: "storage.s3.cloudfront.ipfilteredby", Verdict: strict.Ignored, Unless: "none", Why: "every client is redirected alike"},
	{Key: "storage.s3.cloudfront.awsregion", Verdict: strict.Ignored, Why: "every client is redirected alike"},
	{Key: "storage.s3.cloudfront.updatefrequency", Verdict: strict.Ignored, Why: "every client is redirected alike"},
	{Key: "storage.s3.cloudfront.iprangesurl", Verdict: strict.Ignored, Why: "every client is redirected alike"},
	{Key: "storage.s3.cloudfront.urlsigningmethod", Verdict: strict.Ignored, Why: "URLs are signed, cookies are not"},
	{Key: "storage.gcs.maxconcurrency", Verdict: strict.Accepted, Why: "requests.read and requests.write are the bounds"},
	{Key: "storage.azure.max_retries", Verdict: strict.Accepted, Why: "nothing is ever copied"},
	{Key: "storage.azure.retry_delay", Verdict: strict.Accepted, Why: "nothing is ever copied"},
	{Key: "storage.azure.connectionstring", Verdict: strict.Ignored, Why: "accountname, accountkey and serviceurl say the same"},
	{Key: "storage.oss", Verdict: strict.Refused, Choice: true, Why: "there is no OSS storage"},
	{Key: "storage.swift", Verdict: strict.Refused, Choice: true, Why: "there is no Swift storage"},
	{Key: "storage.filesystem.maxthreads", Verdict: strict.Ignored, Why: "Berth needs no limit on its threads"},
	{Key: "storage.cache.blobdescriptor", Verdict: strict.Ignored, Unless: "inmemory",
		Why: "records are kept in memory; see storage.cache.size"},
	{Key: "storage.cache.layerinfo", Verdict: strict.Ignored, Unless: "inmemory", Why: "records are kept in memory"},
	{Key: "storage.cache.blobdescriptorsize", Verdict: strict.Accepted, Why: "storage.cache.size is the bound, in bytes"},
	{Key: "storage.tag", Verdict: strict.Ignored, Why: "no request searches all tags"},

	{Key: "auth.openshift", Verdict: strict.Refused, Choice: true, Why: notYet + openToAll},
	{Key: "auth.silly", Verdict: strict.Refused, Choice: true, Why: "it lets everybody in; write auth: none if that is meant"},

	{Key: "http.tls.letsencrypt", Verdict: strict.Refused, Why: notYet + "without it there would be no certificate"},
	{Key: "http.tls.minversion", Verdict: strict.Refused, Unless: "VersionTLS12", Why: "write http.tls.minimumtls: tls1.3"},
	{Key: "http.h2c", Verdict: strict.Ignored, Why: "clients use HTTP/1.1"},

	{Key: "validation.enabled", Verdict: strict.Ignored, Unless: "true", Why: "write validation.disabled to turn it off"},
	{Key: "policy", Verdict: strict.Refused, Why: notYet + "without it any class of content would be accepted"},
	{Key: "proxy", Verdict: strict.Refused, Why: notYet + "without it the server would be no mirror but an empty registry"},
	{Key: "notifications.events", Verdict: strict.Ignored, Why: "there are no notifications in this version"},
	{Key: "notifications.endpoints", Verdict: strict.Refused, Why: notYet + "its endpoints would wait for events in vain"},
	{Key: "redis", Verdict: strict.Ignored, Why: "Berth needs no Redis, also with several replicas"},

	{Key: "middleware.storage", Verdict: strict.Ignored, Why: "only cloudfront, with storage.s3, has a meaning here"},
	{Key: "middleware.registry", Verdict: strict.Refused, Why: "what it does to requests is not known here"},
	{Key: "middleware.repository", Verdict: strict.Refused, Why: "what it does to requests is not known here"},

	{Key: "openshift.version", Verdict: strict.Accepted, Why: "of that section only"},
	{Key: "openshift.kubeconfig", Verdict: strict.Ignored, Why: "Berth asks no Kubernetes API"},
	{Key: "openshift.server", Verdict: strict.Ignored, Why: "see http.host"},
	{Key: "openshift.cache", Verdict: strict.Ignored, Why: "see storage.cache.size"},
	{Key: "openshift.auth", Verdict: strict.Refused, Why: notYet + openToAll},
	{Key: "openshift.audit", Verdict: strict.Refused, Why: notYet + "without it there is no record of who did what"},
	{Key: "openshift.quota", Verdict: strict.Refused, Why: notYet + "without it there are no quotas"},
	{Key: "openshift.pullthrough", Verdict: strict.Refused, Why: notYet + "without it nothing is fetched from elsewhere"},
	{Key: "openshift.compatibility.acceptschema2", Verdict: strict.Refused, Unless: "true",
		Why: "Docker schema 2 is always accepted"},
}

// foreignSuites is the variable of the OpenShift registry that no section has: left aside in silence, it would leave clients suites that
// were to be refused.
const foreignSuites = "OPENSHIFT_REGISTRY_HTTP_TLS_CIPHERSUITES"

// otherNames are sections that have another name in another registry, where they mean the same.
var otherNames = []strict.Renamed{
	{Other: "loglevel", Key: "log.level", Old: true},
	{Other: "openshift.metrics", Key: "metrics"},
	{Other: "openshift.requests", Key: "requests"},
	{Other: "storage.s3aws", Key: "storage.s3"},
}

// fieldNames are the parts of keys that have another name in variables: distribution goes by its Go fields there.
// Among them is the old name of log.level.
var fieldNames = []strict.Renamed{
	{Other: "notifications.eventconfig", Key: "notifications.events"},
	{Other: "health.filecheckers", Key: "health.file"},
	{Other: "health.httpcheckers", Key: "health.http"},
	{Other: "health.tcpcheckers", Key: "health.tcp"},
	{Other: "redis.options", Key: "redis"},
	{Other: "loglevel", Key: "log.level"},
	{Other: "openshift.metrics", Key: "metrics"},
	{Other: "openshift.requests", Key: "requests"},
	{Other: "storage.s3aws", Key: "storage.s3"},
}
