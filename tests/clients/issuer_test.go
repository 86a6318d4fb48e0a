package clients

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/oauth2-proxy/mockoidc"
)

// An identityProvider gives out ID tokens, which hold for an hour.
type identityProvider struct {
	*mockoidc.MockOIDC
	browser *http.Client
}

// newIdentityProvider starts a provider, with the certificate in a folder unless that is "", and returns it with the variable
// that has a registry take its tokens.
func newIdentityProvider(t *testing.T, dir string) (*identityProvider, string) {
	t.Helper()
	m, err := mockoidc.NewServer(nil)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	transport, ca, speaks := &http.Transport{}, "", (*tls.Config)(nil)
	if dir != "" {
		speaks = &tls.Config{Certificates: []tls.Certificate{certificate(t, dir)}}
		l = tls.NewListener(l, speaks)
		ca = "ca: '" + filepath.Join(dir, "ca.crt") + "', "
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		must(t, err)
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text)
	}
	must(t, m.Start(l, speaks))
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := m.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	m.AccessTTL = time.Hour
	browser := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &identityProvider{m, browser}, "REGISTRY_AUTH_OIDC_ISSUERS=[{url: '" + m.Issuer() + "', audiences: [" + m.ClientID + "], " + ca +
		"groups: [{claim: groups, prefix: 'id:'}], conditions: {groups: [staff]}}]"
}

func certificate(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	must(t, err)
	return pair
}

// idToken logs a user in at the provider, as a browser does, and returns the ID token.
func idToken(t *testing.T, m *identityProvider, user, group string) string {
	t.Helper()
	m.QueueUser(&mockoidc.MockUser{Subject: user, Groups: []string{group}})
	const back = "http://127.0.0.1/back"
	answer, err := m.browser.Get(m.AuthorizationEndpoint() + "?" + url.Values{
		"scope": {"openid groups"}, "state": {"x"}, "client_id": {m.ClientID}, "response_type": {"code"}, "redirect_uri": {back},
	}.Encode())
	must(t, err)
	answer.Body.Close()
	to, err := answer.Location()
	must(t, err)
	answer, err = m.browser.PostForm(m.TokenEndpoint(), url.Values{
		"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {back},
		"client_id": {m.ClientID}, "client_secret": {m.ClientSecret},
	})
	must(t, err)
	defer answer.Body.Close()
	var got struct {
		IDToken string `json:"id_token"`
	}
	must(t, json.NewDecoder(answer.Body).Decode(&got))
	if got.IDToken == "" {
		t.Fatalf("the provider answers %d without an ID token", answer.StatusCode)
	}
	return got.IDToken
}

// A tokenServer gives out tokens for a registry named yard, as the token servers of the distribution project do: to users of
// these tests for what they may do of what they ask for.
type tokenServer struct {
	*httptest.Server
	key  *mockoidc.Keypair
	keys []byte // the same, for the registry

	mu    sync.Mutex
	users map[string]string // their passwords
}

// newTokenServer starts a token server, with the certificate in a folder unless that is "", and returns it with the variables
// that have a registry take its tokens. Over TLS the registry fetches the keys, else they are in a file.
func newTokenServer(t *testing.T, dir string) (*tokenServer, []string) {
	t.Helper()
	s := &tokenServer{users: maps.Clone(tokenUsers)}
	var err error
	s.key, err = mockoidc.RandomKeypair(2048)
	must(t, err)
	s.keys, err = s.key.JWKS()
	must(t, err)
	s.Server = httptest.NewUnstartedServer(s)
	t.Cleanup(s.Close)
	env := []string{"REGISTRY_AUTH_TOKEN_SERVICE=yard", "REGISTRY_AUTH_TOKEN_ISSUER=issuer"}
	if dir == "" {
		s.Start()
		file := filepath.Join(t.TempDir(), "keys.json")
		must(t, os.WriteFile(file, s.keys, 0o600))
		env = append(env, "REGISTRY_AUTH_TOKEN_JWKS="+file)
	} else {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, dir)}}
		s.StartTLS()
		env = append(env, "REGISTRY_AUTH_TOKEN_JWKS="+s.URL+"/keys", "REGISTRY_AUTH_TOKEN_CA="+filepath.Join(dir, "ca.crt"))
	}
	realm := strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/token" // some clients go to no other loopback address
	return s, append(env, "REGISTRY_AUTH_TOKEN_REALM="+realm)
}

// knows reports whether a password is that of a user.
func (s *tokenServer) knows(user, password string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	right, ok := s.users[user]
	return ok && right == password
}

// forget removes a user.
func (s *tokenServer) forget(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, user)
}

type scopeClaim struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type tokenClaims struct {
	jwt.RegisteredClaims
	Access []scopeClaim `json:"access"`
}

var tokenUsers = map[string]string{"ann": annPassword, "bob": bobPassword, "pat": patPassword,
	"stray": "for another service", "late": "expired", "odd": "of another issuer"}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/keys" {
		_, _ = w.Write(s.keys)
		return
	}
	user, password, given := r.BasicAuth()
	if r.Method == http.MethodPost {
		user, password, given = r.PostFormValue("username"), r.PostFormValue("password"), true
	}
	if given && !s.knows(user, password) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}`))
		return
	}
	now := time.Now()
	claims := tokenClaims{RegisteredClaims: jwt.RegisteredClaims{
		Issuer: "issuer", Subject: user, Audience: jwt.ClaimStrings{r.FormValue("service")},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(5 * time.Minute)),
	}}
	switch user {
	case "stray":
		claims.Audience = jwt.ClaimStrings{"another"}
	case "late":
		claims.ExpiresAt = jwt.NewNumericDate(now.Add(-time.Hour))
	case "odd":
		claims.Issuer = "another"
	}
	for _, scope := range strings.Fields(strings.Join(r.Form["scope"], " ")) {
		claims.Access = append(claims.Access, granted(user, scope))
	}
	text, err := s.key.SignJWT(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": text, "access_token": text, "expires_in": 300, "issued_at": now.UTC()})
}

// granted returns what a user may do of a scope "repository:team/app:pull,push": ann may push to team/**, bob pull from it,
// pat delete from it, and all but nobody list.
func granted(user, scope string) scopeClaim {
	rights := map[string][]string{"ann": {"pull", "push"}, "bob": {"pull"}, "pat": {"pull", "delete"}}[user]
	kind, rest, _ := strings.Cut(scope, ":")
	i := max(0, strings.LastIndexByte(rest, ':'))
	name, actions := rest[:i], strings.Split(strings.TrimPrefix(rest[i:], ":"), ",")
	switch {
	case kind == "registry" && user != "":
		rights = []string{"*"}
	case !strings.HasPrefix(name, "team/"):
		rights = nil
	}
	return scopeClaim{kind, name, slices.DeleteFunc(actions, func(a string) bool { return !slices.Contains(rights, a) })}
}
