package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/auth/reload"
)

// openConfig lets everybody pull, and takes passwords and ID tokens.
const openConfig = `version: 0.1
storage: {inmemory: {}}
http: {addr: ':0', host: 'http://hub.example:1'}
auth:
  anonymous: [pull]
  oidc: {issuers: [{url: ISSUER, audiences: [yard], conditions: {repository: ['acme/*']}}]}
  htpasswd: {path: DIR/users}
`

// pass asks for a token and returns the Authorization header that it makes.
func (w *tokenWorld) pass(authorization string) string {
	w.Helper()
	status, _, body := w.answer(authorization, "GET /v2/_berth/auth/token?service=hub.example:1")
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 || answer.Token == "" {
		w.Fatalf("the token endpoint answers %d %s", status, body)
	}
	return "Bearer " + answer.Token
}

// TestPasses logs in at the token endpoint in all ways, and out by a change of the file of users.
func TestPasses(t *testing.T) {
	w := startTokens(t, openConfig)
	const tag = "/v2/team/app/manifests/v1"
	status, challenges, _ := w.answer("", "GET /v2/")
	if want := `Bearer realm="http://hub.example:1/v2/_berth/auth/token",service="hub.example:1"`; status != 401 || len(challenges) != 1 || challenges[0] != want {
		t.Errorf("/v2/ is answered %d with %q", status, challenges)
	}
	ann, nobody, job := w.pass(basic("ann", "ann-secret")), w.pass(""), w.pass(basic("anything", w.id(nil)))
	for _, test := range []struct {
		name, authorization, do string
		status                  int
	}{
		{"ann", ann, "PUT " + tag, 201},
		{"nobody", nobody, "GET " + tag, 200},
		{"nobody", nobody, "PUT " + tag, 401},
		{"nobody, without a pass", "", "GET " + tag, 200},
		{"a job", job, "PUT " + tag, 201},
		{"ann's password", basic("ann", "ann-secret"), "PUT " + tag, 201},
		{"a pass for a pass", ann, "GET /v2/_berth/auth/token", 401},
		{"a token of somebody else", "Bearer " + w.id(claims{"iss": "https://elsewhere"}), "GET " + tag, 401},
		{"a wrong password", basic("ann", "bob-secret"), "GET /v2/_berth/auth/token", 401},
		{"a job of somebody else", basic("x", w.id(claims{"repository": "evil/x"})), "GET /v2/_berth/auth/token", 401},
	} {
		if status, _, body := w.answer(test.authorization, test.do); status != test.status {
			t.Errorf("%s: %s is answered %d, want %d: %s", test.name, test.do, status, test.status, body)
		}
	}
	response, err := http.PostForm(w.url+"/v2/_berth/auth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {w.id(nil)}})
	if err != nil {
		t.Fatal(err)
	}
	if response.Body.Close(); response.StatusCode != 200 {
		t.Errorf("an ID token in a form is answered %d", response.StatusCode)
	}
	usersOf(t, w.dir, "ann", "bob") // with new hashes
	for end := time.Now().Add(reload.Interval + 2*time.Second); ; time.Sleep(20 * time.Millisecond) {
		if status, challenges, _ := w.answer(ann, "PUT "+tag); status == 401 && strings.HasSuffix(challenges[0], `,error="invalid_token"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the pass outlives the password")
		}
	}
	w.configure(strings.ReplaceAll(strings.Replace(openConfig, "[pull]", "[]", 1), "ISSUER", w.issuer.URL))
	w.signal("reloaded the configuration")
	for do, want := range map[string]int{"GET /v2/": 401, "GET " + tag: 401, "GET /v2/_berth/auth/token": 404} {
		if status, _, _ := w.answer(nobody, do); status != want {
			t.Errorf("once nothing is open, %s is answered %d, want %d", do, status, want)
		}
	}
	w.stop()
}
