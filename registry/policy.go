package registry

import (
	"regexp"
	"slices"
	"strings"
)

// A Policy says which manifests are accepted, beyond being well formed. The zero Policy asks that a repository have all
// that a manifest names.
type Policy struct {
	// AllowMissing accepts manifests that name blobs and manifests which the repository lacks.
	AllowMissing bool
	// Platforms says which entries of an index must be there; nil: all of them.
	Platforms func(os, architecture string) bool
	// AllowURLs and DenyURLs decide about the URLs in descriptors: each must match one of AllowURLs, if there are any,
	// and none of DenyURLs.
	AllowURLs, DenyURLs []*regexp.Regexp
}

// OnlyPlatforms returns a [Policy.Platforms] that asks for the given ones, each written "os/architecture" in any case.
// With none it asks for nothing: indexes may be sparse.
func OnlyPlatforms(platforms ...string) func(os, architecture string) bool {
	return func(os, architecture string) bool {
		return slices.ContainsFunc(platforms, func(p string) bool { return strings.EqualFold(p, os+"/"+architecture) })
	}
}

// requires reports whether an entry of an index must be in the repository.
func (p *Policy) requires(d *descriptor) bool {
	switch {
	case p.AllowMissing:
		return false
	case p.Platforms == nil:
		return true
	case d.Platform == nil:
		return p.Platforms("", "")
	}
	return p.Platforms(d.Platform.OS, d.Platform.Architecture)
}

// checkURLs refuses a manifest whose descriptors have URLs that the policy does not allow.
func (p *Policy) checkURLs(doc *document) error {
	for _, list := range [][]descriptor{doc.blobs, doc.manifests} {
		for _, d := range list {
			for _, url := range d.URLs {
				if len(p.AllowURLs) > 0 && !matchesAny(p.AllowURLs, url) || matchesAny(p.DenyURLs, url) {
					return newError(ManifestInvalid, "the URL %q in the descriptor of %s is not allowed here", clip(url), d.parsed)
				}
			}
		}
	}
	return nil
}

func matchesAny(patterns []*regexp.Regexp, s string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(s) })
}
