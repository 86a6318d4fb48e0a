package api

import (
	"maps"
	"net/http"
	"slices"
)

// headers are those of every response.
type headers struct {
	all     http.Header // shared by all responses, which replace values and never change them
	origins []string    // that may ask from a browser
}

// newHeaders adds what every response has to the configured headers. Where any origin is allowed, it leaves out the
// permission to send credentials: browsers refuse the combination, and a proxy that rewrites the origin would make it a hole.
func newHeaders(configured http.Header) headers {
	h := headers{all: http.Header{"X-Content-Type-Options": {"nosniff"}}}
	for name, values := range configured {
		h.all[http.CanonicalHeaderKey(name)] = slices.Clip(slices.Clone(values))
	}
	h.all["Docker-Distribution-Api-Version"] = []string{"registry/2.0"}
	h.origins = h.all["Access-Control-Allow-Origin"]
	if slices.Contains(h.origins, "*") {
		h.origins = nil
		h.all["Access-Control-Allow-Origin"] = []string{"*"}
		delete(h.all, "Access-Control-Allow-Credentials")
	}
	return h
}

// set adds the headers to a response. Of several allowed origins it names the one that asks: a browser takes one only.
func (h *headers) set(to http.Header, r *http.Request) {
	maps.Copy(to, h.all)
	if len(h.origins) == 0 {
		return
	}
	to["Vary"] = append(slices.Clip(to["Vary"]), "Origin")
	to["Access-Control-Allow-Origin"] = h.origins[:1:1]
	if origin := r.Header.Get("Origin"); slices.Contains(h.origins, origin) {
		to["Access-Control-Allow-Origin"] = []string{origin}
	}
}
