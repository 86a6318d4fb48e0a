package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"berth/auth/jwttest"
)

type claims = map[string]any

// tokenConfig takes tokens of a token server, ID tokens of one issuer, and passwords.
const tokenConfig = `version: 0.1
storage: {inmemory: {}, delete: {enabled: true}}
http: {addr: ':0'}
auth:
  token: {realm: 'https://auth.example/token', service: yard, issuer: auth.example, rootcertbundle: DIR/bundle, jwks: DIR/keys}
  oidc:
    issuers:
    - {url: ISSUER, audiences: [yard], userprefix: 'ci:', groups: [{claim: teams, prefix: 'ci:'}], conditions: {repository: ['acme/*']}}
  htpasswd: {path: DIR/users}
`

// A tokenWorld is a server with all ways to log in, and the keys of who issues tokens.
type tokenWorld struct {
	*guarded
	server   *jwttest.Key
	root     *jwttest.Certificate
	identity *jwttest.Key
	issuer   *jwttest.Server
}

func startTokens(t *testing.T, config string) *tokenWorld {
	t.Helper()
	w := &tokenWorld{
		server: jwttest.NewKey(t, "server", jose.ES256), root: jwttest.Certify(t, nil, time.Now().Add(time.Hour)),
		identity: jwttest.NewKey(t, "identity", jose.ES256),
	}
	w.issuer = jwttest.Serve(t, false, w.identity)
	w.guarded = startWith(t, func(g *guarded) string {
		file(t, g.dir, "keys", string(jwttest.Set(t, w.server)))
		file(t, g.dir, "bundle", string(w.root.PEM()))
		return strings.ReplaceAll(config, "ISSUER", w.issuer.URL)
	})
	return w
}

func with(base, changes claims) claims {
	for name, value := range changes {
		base[name] = value
	}
	return base
}

// scoped has the claims of the token server: name of a repository and actions on it.
func scoped(name string, actions ...string) claims {
	kind := "repository"
	if name == "catalog" {
		kind = "registry"
	}
	return claims{
		"iss": "auth.example", "sub": "eve", "aud": "yard", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(),
		"access": []claims{{"type": kind, "name": name, "actions": actions}},
	}
}

func (w *tokenWorld) id(changes claims) string {
	return w.identity.Sign(w, with(claims{"iss": w.issuer.URL, "sub": "job", "aud": "yard", "repository": "acme/app",
		"exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "teams": []string{"writers"}}, changes), nil)
}

// answer sends a request with an Authorization header, "" for none, and returns the status and the challenge.
func (w *tokenWorld) answer(authorization, do string) (status int, challenges []string, body string) {
	w.Helper()
	method, path, _ := strings.Cut(do, " ")
	content := ""
	if method == http.MethodPut {
		content = emptyIndex
	}
	response, body := w.send(func(r *http.Request) {
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
	}, method, path, content)
	return response.StatusCode, response.Header.Values("WWW-Authenticate"), body
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// TestTokens asks with every kind of credentials, right and wrong. A challenge is always one header, for a token.
func TestTokens(t *testing.T) {
	w := startTokens(t, tokenConfig)
	const tag, scope = "/v2/team/app/manifests/v1", `,scope="repository:team/app:`
	sign := func(changes claims) string {
		return "Bearer " + w.server.Sign(t, with(scoped("team/app", "pull", "push"), changes), nil)
	}
	stranger := jwttest.NewKey(t, "server", jose.ES256)
	past := time.Now().Add(-time.Hour).Unix()
	invalid := `,error="invalid_token"`
	for _, test := range []struct {
		name, authorization, do string
		status                  int
		challenge               string // behind realm and service
	}{
		{"no token", "", "GET /v2/", 401, ""},
		{"no token", "", "GET " + tag, 401, scope + `pull"`},
		{"no token", "", "PUT " + tag, 401, scope + `pull,push"`},
		{"no token", "", "GET /v2/_catalog", 401, `,scope="registry:catalog:*"`},
		{"allowed", sign(nil), "GET /v2/", 200, ""},
		{"allowed", sign(nil), "PUT " + tag, 201, ""},
		{"allowed by x5c", "Bearer " + w.root.Sign(t, scoped("team/app", "pull"), w.root.X5C()), "GET " + tag, 200, ""},
		{"too narrow", sign(nil), "DELETE " + tag, 401, scope + `delete",error="insufficient_scope"`},
		{"another repository", sign(nil), "GET /v2/other/manifests/v1", 401, `,scope="repository:other:pull",error="insufficient_scope"`},
		{"wrong audience", sign(claims{"aud": "other"}), "GET " + tag, 401, scope + `pull"` + invalid},
		{"expired", sign(claims{"exp": past}), "GET " + tag, 401, scope + `pull"` + invalid},
		{"another key", "Bearer " + stranger.Sign(t, scoped("team/app", "pull"), nil), "GET " + tag, 401, scope + `pull"` + invalid},
		{"foreign issuer", sign(claims{"iss": "elsewhere"}), "GET " + tag, 401, scope + `pull"` + invalid},
		{"no JWT", "Bearer opaque", "GET " + tag, 401, scope + `pull"` + invalid},
		{"no token at all", "Bearer", "GET " + tag, 401, scope + `pull"`},
		{"characters of no token", "Bearer a\tb", "GET " + tag, 401, scope + `pull"` + invalid},
		{"another scheme", "Digest x", "GET " + tag, 401, scope + `pull"`},
		{"ID token as a password", basic("anybody", w.id(nil)), "GET " + tag, 200, ""},
		{"ID token as a Bearer token", "Bearer " + w.id(nil), "GET " + tag, 200, ""},
		{"ID token for another service", basic("anybody", w.id(claims{"aud": "other"})), "GET " + tag, 401, scope + `pull"` + invalid},
		{"expired ID token", basic("anybody", w.id(claims{"exp": past})), "GET " + tag, 401, scope + `pull"` + invalid},
		{"a condition does not hold", basic("anybody", w.id(claims{"repository": "acme/app/fork"})), "GET " + tag, 401, scope + `pull"` + invalid},
		{"ID token of a foreign issuer", basic("anybody", w.id(claims{"iss": "https://elsewhere"})), "GET " + tag, 401, scope + `pull"`},
		{"the password of a user", basic("ann", "ann-secret"), "GET " + tag, 200, ""},
		{"a wrong password", basic("ann", "bob-secret"), "GET " + tag, 401, scope + `pull"`},
	} {
		status, challenges, body := w.answer(test.authorization, test.do)
		if status != test.status {
			t.Errorf("%s: %s is answered %d, want %d: %s", test.name, test.do, status, test.status, body)
		}
		want := `Bearer realm="https://auth.example/token",service="yard"` + test.challenge
		if status == 401 && (len(challenges) != 1 || challenges[0] != want) {
			t.Errorf("%s: %s is challenged by %q, want %q", test.name, test.do, challenges, want)
		}
	}
	w.stop()
}

// TestTokensAndBindings: an ID token has the name and the groups that the configuration makes of it, a token for the
// catalog alone lists what its owner may pull from, and neither may more than bindings say.
func TestTokensAndBindings(t *testing.T) {
	w := startTokens(t, tokenConfig+`authorization:
  bindings:
    - {subjects: ['group:ci:writers'], roles: [registry-editor], repositories: ['**']}
    - {subjects: ['user:ann', 'user:eve'], roles: [registry-viewer], repositories: ['team/**']}
`)
	writer := basic("anybody", w.id(nil))
	sign := func(sub string, c claims) string {
		return "Bearer " + w.server.Sign(t, with(c, claims{"sub": sub}), nil)
	}
	for _, test := range []struct {
		authorization, do string
		status            int
		body              string
	}{
		{writer, "PUT /v2/team/app/manifests/v1", 201, ""},
		{writer, "PUT /v2/hidden/manifests/v1", 201, ""},
		{basic("x", w.id(claims{"teams": "readers"})), "GET /v2/team/app/manifests/v1", 403, `\"ci:job\" may not pull`},
		{basic("x", w.id(claims{"sub": "ann", "teams": "readers"})), "GET /v2/team/app/manifests/v1", 403, `\"ci:ann\" may not pull`},
		{sign("eve", scoped("catalog", "*")), "GET /v2/_catalog", 200, `{"repositories":["team/app"]}`},
		{sign("mallory", scoped("catalog", "*")), "GET /v2/_catalog", 403, "may not list"},
		{sign("", scoped("catalog", "*")), "GET /v2/_catalog", 401, "authentication required"},
		{sign("eve", scoped("catalog", "*")), "GET /v2/team/app/manifests/v1", 401, "may not pull"},
		{sign("eve", scoped("team/app", "pull")), "GET /v2/_catalog", 401, "may not list"},
		{sign("eve", scoped("hidden", "pull")), "GET /v2/hidden/manifests/v1", 403, "may not pull"},
		{basic("ann", "ann-secret"), "GET /v2/_catalog", 200, `{"repositories":["team/app"]}`},
	} {
		if status, _, body := w.answer(test.authorization, test.do); status != test.status || !strings.Contains(body, test.body) {
			t.Errorf("%s with %.12s is answered %d, want %d %s: %s", test.do, test.authorization, status, test.status, test.body, body)
		}
	}
	w.stop()
}

// TestIssuerDoesNotAnswer: the server starts, says so, and serves everybody else.
func TestIssuerDoesNotAnswer(t *testing.T) {
	w := startTokens(t, strings.Replace(tokenConfig, "ISSUER", "ISSUER/none", 1))
	if status, _, body := w.answer(basic("x", w.id(claims{"iss": w.issuer.URL + "/none"})), "GET /v2/"); status != 503 || !strings.Contains(body, "UNAVAILABLE") {
		t.Errorf("it is answered %d: %s", status, body)
	}
	if status, _, body := w.answer(basic("ann", "ann-secret"), "GET /v2/"); status != 200 {
		t.Errorf("a user is answered %d: %s", status, body)
	}
	config := strings.Replace(tokenConfig, "ISSUER", w.issuer.URL+"/none", 1)
	w.configure(strings.Replace(config, "yard", "other", 1))
	w.signal("was not reloaded")
	w.configure(config + "  anonymous: [pull]\n")
	w.signal("reloaded the configuration")
	w.stop()
	if log := w.stderr.String(); !strings.Contains(log, "/none/.well-known/openid-configuration: answered 404") {
		t.Errorf("the log does not say what does not answer: %s", log)
	}
}

// TestChallengeOfOIDC: without a token server a password is asked for, which an ID token is.
func TestChallengeOfOIDC(t *testing.T) {
	w := startTokens(t, "version: 0.1\nstorage: inmemory\nhttp: {addr: ':0'}\nauth: {oidc: {issuers: [{url: ISSUER, audiences: [yard]}]}}\n")
	if status, challenges, _ := w.answer("", "GET /v2/"); status != 401 || len(challenges) != 1 || challenges[0] != `Basic realm="Registry"` {
		t.Errorf("it is answered %d with %q", status, challenges)
	}
	if status, _, body := w.answer(basic("ann", w.id(nil)), "PUT /v2/a/manifests/v1"); status != 201 {
		t.Errorf("an ID token is answered %d: %s", status, body)
	}
	if status, _, _ := w.answer(basic("ann", "ann-secret"), "GET /v2/"); status != 401 {
		t.Errorf("a password is answered %d", status)
	}
	w.answer(basic("x", w.id(claims{"sub": "ann"})), "GET /v2/") // stop looks for the name
	w.stop()
}

// TestKeysRefused: what cannot be read is found by `berth config check`, and named by its key.
func TestKeysRefused(t *testing.T) {
	dir := t.TempDir()
	keys := file(t, dir, "keys", string(jwttest.Set(t, jwttest.NewKey(t, "k", jose.ES256))))
	bundle := file(t, dir, "bundle", string(jwttest.Certify(t, nil, time.Now().Add(time.Hour)).PEM()))
	bad := file(t, dir, "bad", "{")
	gone := jwttest.Serve(t, false)
	gone.Answer(http.NotFound)
	token := func(rest string) string {
		return "auth:\n  token:\n    realm: https://auth.example/token\n    service: yard\n    issuer: auth.example\n    " + rest + "\n"
	}
	oidc := func(rest string) string {
		return "auth:\n  oidc:\n    issuers:\n    - {url: 'https://a.example', audiences: [yard]}\n    - {audiences: [yard], " + rest + "}\n"
	}
	for _, test := range []struct{ config, want string }{
		{token("rootcertbundle: " + bundle + "\n    jwks: " + keys), ""},
		{oidc("url: 'https://b.example', jwks: " + keys), ""},
		{token("rootcertbundle: " + dir + "/none"), `config.yml:8: auth.token.rootcertbundle: .*none: no such file`},
		{token("jwks: " + keys + "\n    rootcertbundle: " + bad), `config.yml:9: auth.token.rootcertbundle: .*bad`},
		{token("rootcertbundle: " + bundle + "\n    jwks: " + dir + "/none"), `config.yml:9: auth.token.jwks: .*none: no such file`},
		{token("jwks: " + bad), `config.yml:8: auth.token.jwks: .*bad`},
		{token("jwks: " + gone.URL + "/keys"), `config.yml:8: auth.token.jwks: .*answered 404`},
		{token("jwks: http://auth.example/keys"), `config.yml:8: auth.token.jwks: .*must be fetched by https`},
		{token("jwks: https://auth.example/keys\n    ca: " + dir + "/none"), `config.yml:8: auth.token.jwks: .*certificate authority: .*none`},
		{token("jwks: " + keys + "\n    signingalgorithms: [HS256]"), `config.yml:9: auth.token.signingalgorithms: .*HS256`},
		{token("x: y"), `config.yml:4: auth.token: must have rootcertbundle or jwks`},
		{oidc("url: 'https://b.example', jwks: " + dir + "/none"), `config.yml:7: auth.oidc.issuers\[1\]: .*none: no such file`},
		{oidc("url: 'http://b.example'"), `config.yml:7: auth.oidc.issuers\[1\]: .*must be fetched by https`},
		{oidc("url: 'https://b.example', conditions: {ref: []}"), `config.yml:7: auth.oidc.issuers\[1\]: .*"ref" has no pattern`},
		{oidc("url: 'https://a.example'"), `config.yml:5: auth.oidc.issuers: .*occurs twice`},
	} {
		path := file(t, t.TempDir(), "config.yml", "version: 0.1\nstorage: inmemory\n"+test.config)
		expected := commandTest{args: []string{"config", "check", path}, code: 1, stderr: test.want}
		if test.want == "" {
			expected.code, expected.stdout = 0, "ok\n$"
			if strings.Contains(test.config, "oidc") {
				expected.stderr = "warning: .*everybody for whom"
			}
		}
		expected.run(t)
	}
}
