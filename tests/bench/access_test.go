package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestCredentialsMustBeLookedAt holds that a server that takes wrong credentials is not measured.
func TestCredentialsMustBeLookedAt(t *testing.T) {
	const right = "Basic YmVuY2g6cGFzc3dvcmQtb2YtdGhlLWJlbmNo"
	for name, careless := range map[string]bool{"careful": false, "careless": true} {
		manifest := image(part{}, nil, "")
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "" && got != right && !careless {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			switch {
			case r.Method == http.MethodPost:
				w.Header().Set("Location", "/upload")
				w.WriteHeader(http.StatusAccepted)
			case r.Method == http.MethodPut:
				w.WriteHeader(http.StatusCreated)
			default:
				w.Write(manifest)
			}
		})
		s.authorization = right
		all, err := credited(asItIs)(s)
		if (err != nil) != careless {
			t.Errorf("a %s server: %v", name, err)
		}
		if err == nil && !strings.Contains(all[0].header, right) {
			t.Errorf("the requests have the header %q", all[0].header)
		}
	}
}

// TestPlacesOfAccess holds that of two targets in a place one has credentials, and that neither takes the server of the other.
func TestPlacesOfAccess(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	for _, p := range []place{withPasswords, withTokens} {
		targets, err := p(t.Context(), b, target{name: berth, config: berthConfig})
		if err != nil {
			t.Fatal(err)
		}
		if len(targets) != 2 || targets[0].authorization == "" || targets[1].authorization != "" || targets[0].key() == targets[1].key() ||
			!strings.Contains(targets[0].config, b.dir) {
			t.Errorf("%+v", targets)
		}
	}
	targets, err := overTLS(t.Context(), b, target{name: floor, arguments: inOrder()})
	if err != nil {
		t.Fatal(err)
	}
	if got := targets[0].arguments("a", "f"); len(got) != 4 || got[2] != filepath.Join(b.dir, "floor.crt") || targets[0].tls == nil {
		t.Errorf("%q", got)
	}
}
