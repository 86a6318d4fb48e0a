package api

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"berth/auth"
	"berth/auth/htpasswd"
	"berth/auth/pass"
)

// A passWorld is a registry from which everybody may pull, and ann may push to "a".
type passWorld struct {
	*world
	send bool // clients are sent for passes
}

func newPassWorld(t *testing.T, o Options) *passWorld {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("ann's secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, append([]byte("ann:"), hash...), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := htpasswd.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.Passes, err = pass.New([]byte("a secret of all replicas"), auth.Methods{users}, pass.Options{Service: "yard", Users: users}); err != nil {
		t.Fatal(err)
	}
	w := &passWorld{send: true}
	o.SendForPasses = func() bool { return w.send }
	o.Challenge = func(*http.Request, []auth.Access, error) string { return auth.BasicChallenge("yard") }
	may := rights{" pull ": true, " pull a": true, "ann pull ": true, "ann pull a": true, "ann push a": true}
	w.world = newWorldFor(t, o.Passes, may, &o)
	return w
}

var annBasic = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("ann:ann's secret"))

// token asks for a token and returns it.
func (w *passWorld) token(method, target string, form url.Values, header string) string {
	w.t.Helper()
	r := httptest.NewRequest(method, "http://reg.test"+target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	}
	for name, value := range lines(header) {
		r.Header.Set(name, value)
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	var got struct {
		Token       string
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"`
		IssuedAt    string `json:"issued_at"`
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Code != 200 {
		w.t.Fatalf("%s %s is answered %d %s", method, target, answer.Code, answer.Body)
	}
	issued, err := time.Parse(time.RFC3339, got.IssuedAt)
	if got.Token == "" || got.AccessToken != got.Token || got.TokenType != "Bearer" || got.ExpiresIn != 300 ||
		err != nil || time.Since(issued).Abs() > time.Minute || answer.Header().Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s %s is answered %s with %v", method, target, answer.Body, answer.Header())
	}
	return got.Token
}

// TestTokens follows the docker engine: it asks /v2/, fetches a token with a password or without, and comes with that.
func TestTokens(t *testing.T) {
	w := newPassWorld(t, Options{})
	const realm = `WWW-Authenticate: Bearer realm="http://reg.test/v2/_berth/auth/token",service="yard"`
	w.run(
		exchange{do: "GET /v2/", want: 401, code: "UNAUTHORIZED", answer: realm},
		exchange{do: "HEAD /v2/", header: "Authorization: Basic Og==", want: 401, answer: realm},
		exchange{do: "GET /v2/", header: annBasic, want: 200, answer: "WWW-Authenticate:"},
		exchange{do: "GET /v2/a/manifests/v1", want: 404},
		exchange{do: "POST /v2/a/blobs/uploads/", want: 401, answer: realm + `,scope="repository:a:pull,push"`},
		exchange{do: "POST /v2/a/blobs/uploads/", header: annBasic, want: 202},
	)
	const asked = "/v2/_berth/auth/token?account=ann&client_id=docker&offline_token=true&service=yard&scope=repository%3Aa%3Apush%2Cpull"
	for name, ann := range map[string]string{
		"docker":             w.token("GET", asked, nil, annBasic),
		"a client of little": w.token("GET", tokenPath, nil, annBasic),
		"containerd": w.token("POST", tokenPath, url.Values{"grant_type": {"password"}, "service": {"yard"}, "client_id": {"containerd-client"},
			"scope": {"repository:a:pull"}, "username": {"ann"}, "password": {"ann's secret"}}, ""),
	} {
		w.names["token"] = ann
		w.run(
			exchange{do: "GET /v2/", header: "Authorization: Bearer {token}", want: 200, answer: "WWW-Authenticate:"},
			exchange{do: "POST /v2/a/blobs/uploads/", header: "Authorization: Bearer {token}", want: 202},
			exchange{do: "POST /v2/b/blobs/uploads/", header: "Authorization: Bearer {token}", want: 403, code: "DENIED"},
			exchange{do: "POST /v2/a/blobs/uploads/", header: "Authorization: Bearer {token}x", want: 401,
				answer: realm + `,scope="repository:a:pull,push",error="invalid_token"`},
			exchange{do: "GET " + tokenPath, header: "Authorization: Bearer {token}", want: 401, code: "UNAUTHORIZED", answer: `WWW-Authenticate: Basic realm="yard"`},
		)
		if t.Failed() {
			t.Fatalf("with the token of %s", name)
		}
	}
	for _, nobody := range []string{
		w.token("GET", asked, nil, ""), w.token("GET", asked, nil, "Authorization: Basic Og=="),
		w.token("POST", tokenPath, url.Values{"grant_type": {"password"}}, ""),
	} {
		w.names["token"] = nobody
		w.run(
			exchange{do: "GET /v2/", header: "Authorization: Bearer {token}", want: 200},
			exchange{do: "GET /v2/a/manifests/v1", header: "Authorization: Bearer {token}", want: 404},
			exchange{do: "POST /v2/a/blobs/uploads/", header: "Authorization: Bearer {token}", want: 401,
				answer: realm + `,scope="repository:a:pull,push",error="insufficient_scope"`},
		)
	}
}

func TestTokensRefused(t *testing.T) {
	w := newPassWorld(t, Options{})
	const form = "Content-Type: application/x-www-form-urlencoded"
	post := func(header, body string, want int, says string) exchange {
		return exchange{do: "POST " + tokenPath, header: header, body: body, want: want, says: says}
	}
	w.run(
		exchange{do: "GET " + tokenPath, header: "Authorization: Basic YW5uOng=", want: 401, code: "UNAUTHORIZED", answer: `WWW-Authenticate: Basic realm="yard"`},
		exchange{do: "GET " + tokenPath + "?service=elsewhere", header: annBasic, want: 400, says: `for the service \"yard\" only`},
		exchange{do: "DELETE " + tokenPath, want: 405, answer: "Allow: GET, HEAD, POST, OPTIONS"},
		exchange{do: "GET " + tokenPath + "/", want: 404},
		exchange{do: "GET /v2/_berth/auth/tokens", want: 404},
		post(form, "grant_type=password&username=ann&password=x", 401, "password is wrong"),
		post(form, "grant_type=password&username=a:nn&password=x", 401, "cannot have a colon"),
		post(form, "grant_type=password&username=ann&password=%00", 401, "control character"),
		post(form, "grant_type=password&username=ann&password=x&password=y", 400, "more than one password"),
		post(form, "grant_type=password&service=elsewhere", 400, "for the service"),
		post(form, "grant_type=password&username="+strings.Repeat("x", 40<<10), 401, "longer than"),
		post(form, "grant_type=refresh_token&refresh_token=x", 401, "log in with a user name"),
		post(form, "grant_type=refresh_token&refresh_token=x+y", 401, "log in with a user name"),
		post(form, "grant_type=refresh_token", 401, "log in with a user name"),
		post(form, "grant_type=client_credentials", 400, "neither password nor refresh_token"),
		post(form, "", 400, "neither password nor refresh_token"),
		post(form, "grant_type=%zz", 400, "the form is malformed"),
		post(form, "x="+strings.Repeat("x", maxLoginForm), 413, "too large"),
		post(form+"\n"+annBasic, "grant_type=password&username=ann&password=x", 400, "in its header and in its form"),
		post("", "grant_type=password", 400, "not a form"),
		post("Content-Type: application/json", `{"grant_type": "password"}`, 400, "not a form"),
	)
	w.send = false
	w.run(
		exchange{do: "GET /v2/", want: 200, answer: `WWW-Authenticate: Basic realm="yard"`},
		exchange{do: "POST /v2/a/blobs/uploads/", want: 401, answer: `WWW-Authenticate: Basic realm="yard"`},
		exchange{do: "GET " + tokenPath, header: annBasic, want: 404},
		post(form, "grant_type=password", 404, "no such endpoint"),
	)
	newWorld(t, nil).run(exchange{do: "GET " + tokenPath, want: 404})
}

// TestTokenRealm: clients are sent to where they are, behind whatever proxy.
func TestTokenRealm(t *testing.T) {
	for _, test := range []struct {
		o            Options
		header, want string
	}{
		{Options{}, "", "http://reg.test/v2"},
		{Options{Prefix: "/x/"}, "", "http://reg.test/x/v2"},
		{Options{RelativeURLs: true}, "", "http://reg.test/v2"},
		{Options{}, "X-Forwarded-Proto: https\nX-Forwarded-Host: hub.example\nX-Forwarded-Prefix: /y", "https://hub.example/y/v2"},
		{Options{}, "Forwarded: proto=https;host=hub.example", "https://hub.example/v2"},
		{Options{}, "X-Forwarded-Proto: https\nX-Forwarded-Host: evil\"x", "https://reg.test/v2"},
		{Options{Host: "https://hub.example", RelativeURLs: true}, "X-Forwarded-Host: elsewhere", "https://hub.example/v2"},
	} {
		w := newPassWorld(t, test.o)
		w.run(exchange{do: "GET " + strings.TrimSuffix(test.o.Prefix, "/") + "/v2/", header: test.header, want: 401,
			answer: `WWW-Authenticate: Bearer realm="` + test.want + `/_berth/auth/token",service="yard"`})
	}
}

// TestTokensOfNobody: nobody gets a token where nothing is open to everybody.
func TestTokensOfNobody(t *testing.T) {
	w := newPassWorld(t, Options{})
	w.handler.(*API).authorizer = rights{"ann pull ": true}
	w.run(
		exchange{do: "GET " + tokenPath, want: 401, code: "UNAUTHORIZED", answer: `WWW-Authenticate: Basic realm="yard"`},
		exchange{do: "GET " + tokenPath, header: annBasic, want: 200},
	)
}

// A drip is a body of which a byte comes every second.
type drip struct{ body io.Reader }

func (d drip) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return d.body.Read(p[:1])
}

// TestLoginInTime: nobody holds a connection by a form that never ends.
func TestLoginInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPassWorld(t, Options{})
		for form, want := range map[string]int{"x=y": 400, "grant_type=password&username=ann&password=x": 408} {
			r := httptest.NewRequest("POST", tokenPath, drip{strings.NewReader(form)})
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			answer, start := httptest.NewRecorder(), time.Now()
			w.handler.ServeHTTP(answer, r)
			if took := time.Since(start); answer.Code != want || took > maxLoginTime+2*time.Second {
				t.Errorf("%s: answered %d after %v", form, answer.Code, took)
			}
		}
	})
}
