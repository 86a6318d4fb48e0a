package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"berth/auth"
	"berth/auth/pass"
)

// tokenPath is where clients get tokens. It is one of an extension of the registry, as the OCI distribution specification
// has them (section "Extensions"), so that whatever leads to /v2/ leads there, too.
const tokenPath = "/v2/_berth/auth/token"

// Bounds of the form of a login, of whose sender nothing is known yet: bytes, of which an ID token is the longest part, and the
// time that it may take, however steadily it comes.
const (
	maxLoginForm = 64 << 10
	maxLoginTime = 10 * time.Second
)

func (a *API) sendsForPasses() bool { return a.o.Passes != nil && a.o.SendForPasses() }

// challenge returns the WWW-Authenticate header for a client that lacks the accesses. Where clients get passes they are
// asked for a password, by the first way there is.
func (a *API) challenge(c *call, want []auth.Access, refused error) string {
	if !a.sendsForPasses() || c.kind == kindToken {
		return a.o.Challenge(c.r, want, refused)
	}
	realm := a.urls.absolute(c.r, tokenPath)
	if realm == "" {
		return a.o.Challenge(c.r, want, refused)
	}
	b := auth.BearerChallenge{Realm: realm, Service: a.o.Passes.Service()}.For(refused, want...)
	if errors.Is(refused, auth.ErrDenied) && auth.HasCredentials(c.r) { // it has a pass of nobody: another such one helps nobody
		b.Error = "insufficient_scope"
	}
	return b.String()
}

// getToken gives a token for the Basic credentials of a request, or for none, as the token authentication of the
// distribution project has it. It is for the registry as a whole: scopes narrow nothing.
func (a *API) getToken(c *call) error {
	return a.giveToken(c, c.r, c.service)
}

// postToken gives a token for the credentials in a form (OAuth 2.0, RFC 6749, section 4.3). As a refresh token it takes what
// is one to the clients, an ID token.
func (a *API) postToken(c *call) error {
	if !a.sendsForPasses() {
		return errNoRoute
	}
	form, err := readForm(c)
	if err != nil {
		return err
	}
	r, err := login(c.r, form)
	if err != nil {
		return err
	}
	return a.giveToken(c, r, form.Get("service"))
}

// readForm reads the body of a request as a form, in which nothing that counts occurs twice.
func readForm(c *call) (url.Values, error) {
	if t, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, invalid("the body of the request is not a form")
	}
	body, err := io.ReadAll(io.LimitReader(promptBody{c.body(), time.Now().Add(maxLoginTime)}, maxLoginForm+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxLoginForm {
		return nil, &problem{status: http.StatusRequestEntityTooLarge, code: "SIZE_INVALID", message: "the form is too large"}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalid("the form is malformed")
	}
	for _, name := range []string{"grant_type", "username", "password", "refresh_token", "service"} {
		if len(form[name]) > 1 {
			return nil, invalid("the form has more than one " + name)
		}
	}
	return form, nil
}

// A promptBody breaks off when it is not over in time.
type promptBody struct {
	body  io.Reader
	until time.Time
}

func (b promptBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err == nil && time.Now().After(b.until) {
		err = &bodyError{os.ErrDeadlineExceeded}
	}
	return n, err
}

// login returns a request with the credentials of a form in its header, and otherwise like r.
func login(r *http.Request, form url.Values) (*http.Request, error) {
	if auth.HasCredentials(r) {
		return nil, invalid("the request has credentials in its header and in its form")
	}
	r = r.Clone(r.Context())
	switch grant := form.Get("grant_type"); grant {
	case "password":
		r.SetBasicAuth(form.Get("username"), form.Get("password"))
	case "refresh_token":
		r.Header.Set("Authorization", "Bearer "+form.Get("refresh_token"))
	default:
		return nil, invalid("the grant_type is neither password nor refresh_token")
	}
	return r, nil
}

func (a *API) giveToken(c *call, r *http.Request, service string) error {
	if !a.sendsForPasses() {
		return errNoRoute
	}
	if service != "" && service != a.o.Passes.Service() {
		return invalid("tokens are given for the service " + strconv.Quote(a.o.Passes.Service()) + " only")
	}
	p, err := a.o.Passes.Issue(r)
	c.subject = p.Subject
	if err = a.permit(c, enter(c.request), err); err != nil {
		return err
	}
	return writeToken(c, p)
}

// writeToken answers with a token under both of its names, that of the distribution project and that of OAuth 2.0.
func writeToken(c *call, p pass.Pass) error {
	body, err := json.Marshal(struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"` // in seconds
		IssuedAt    string `json:"issued_at"`
	}{p.Text, p.Text, "Bearer", max(1, int(p.Holds/time.Second)), p.Issued.UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	c.w.Header().Set("Cache-Control", "no-store")
	return writeBody(c.w, http.StatusOK, "application/json", body)
}
