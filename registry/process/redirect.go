package process

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"

	"berth/configuration"
	"berth/storage"
)

// redirects returns who may be sent to the storage itself; nil when nobody may, or the storage has no URLs.
func redirects(c configuration.Redirect, store storage.Driver) (func(*http.Request) bool, error) {
	if _, ok := storage.As[storage.Signer](store); !ok || c.Disable {
		return nil, nil
	}
	var exceptions []exception
	for _, e := range c.Except {
		compiled, err := newException(e)
		if err != nil {
			return nil, fmt.Errorf("storage.redirect.except: %w", err)
		}
		exceptions = append(exceptions, compiled)
	}
	return func(r *http.Request) bool {
		return !slices.ContainsFunc(exceptions, func(e exception) bool { return e.fits(r) })
	}, nil
}

// An exception is of clients in some networks, with some programs; an empty list stands for all.
type exception struct {
	networks   []netip.Prefix
	userAgents []*regexp.Regexp
}

func newException(c configuration.RedirectException) (e exception, err error) {
	for _, network := range c.Networks {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return e, err
		}
		e.networks = append(e.networks, prefix.Masked())
	}
	e.userAgents, err = compile(c.UserAgents)
	return e, err
}

func (e exception) fits(r *http.Request) bool {
	if len(e.networks) > 0 {
		client, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return false
		}
		address := client.Addr().Unmap().WithZone("")
		if !slices.ContainsFunc(e.networks, func(p netip.Prefix) bool { return p.Contains(address) }) {
			return false
		}
	}
	return len(e.userAgents) == 0 ||
		slices.ContainsFunc(e.userAgents, func(re *regexp.Regexp) bool { return re.MatchString(r.UserAgent()) })
}
