package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"berth/auth"
	"berth/auth/policy"
)

// refusing authenticates nobody.
type refusing struct{ err error }

func (f refusing) Authenticate(*http.Request) (auth.Subject, error) { return auth.Subject{}, f.err }

// explaining challenges with the error that it was given.
func explaining(_ *http.Request, _ []auth.Access, err error) string {
	return fmt.Sprintf("Test error=%q", fmt.Sprint(err))
}

func TestAuthenticationFails(t *testing.T) {
	for _, test := range []struct {
		err    error
		want   int
		code   string
		answer string
		says   string
	}{
		{auth.ErrCredentials, 401, "UNAUTHORIZED", `WWW-Authenticate: Test error="` + auth.ErrCredentials.Error() + `"`, "password is wrong"},
		{fmt.Errorf("%w; a user name cannot have a colon", auth.ErrCredentials), 401, "UNAUTHORIZED", "", "cannot have a colon"},
		{fmt.Errorf("%w: no base64", auth.ErrMalformed), 401, "UNAUTHORIZED", "", "malformed: no base64"},
		{auth.ErrToken, 401, "UNAUTHORIZED", `WWW-Authenticate: Test error="the token is invalid"`, "token is invalid"},
		{auth.ErrForeign, 401, "UNAUTHORIZED", "", "not of a kind"},
		{&auth.ThrottledError{RetryAfter: 90 * time.Second}, 429, "TOOMANYREQUESTS", "Retry-After: 90\nWWW-Authenticate:", "too many attempts"},
		{fmt.Errorf("get http://internal/jwks: %w", auth.ErrUnavailable), 503, "UNAVAILABLE", "Retry-After: 5\nWWW-Authenticate:", "for now"},
		{errors.New("an error of ours"), 500, "UNKNOWN", "WWW-Authenticate:", "id"},
	} {
		w := newWorldFor(t, refusing{test.err}, auth.AllowAll{}, &Options{Challenge: explaining})
		for _, do := range []string{"GET /v2/", "GET /v2/a/manifests/v1", "POST /v2/a/blobs/uploads/"} {
			w.run(exchange{do: do, want: test.want, code: test.code, answer: test.answer, says: test.says})
		}
	}
}

// narrow denies everything: to its subject's token if the token is too narrow for it.
type narrow struct{ scoped bool }

func (n narrow) Authorize(_ context.Context, s auth.Subject, want ...auth.Access) error {
	return &auth.DeniedError{Subject: s, Want: want, Missing: want[len(want)-1], Scoped: n.scoped}
}

func TestDenied(t *testing.T) {
	push := "POST /v2/a/blobs/uploads/"
	w := newWorldFor(t, byHeader{}, narrow{scoped: true}, &Options{Challenge: explaining})
	w.run(exchange{do: push, header: "User: ann", want: 401, code: "UNAUTHORIZED", says: "may not push",
		answer: `WWW-Authenticate: Test error="access denied: \"ann\" may not push on the repository \"a\""`})
	w = newWorldFor(t, byHeader{}, narrow{}, &Options{Challenge: explaining})
	w.run(
		exchange{do: push, header: "User: ann", want: 403, code: "DENIED", says: "may not push", answer: "WWW-Authenticate:"},
		exchange{do: push, header: "User: ann", want: 403, says: `"detail":[{"Type":"repository","Class":"","Name":"a","Action":"push"}]`},
		exchange{do: push, want: 401, code: "UNAUTHORIZED", says: "authentication required"},
	)
	w = newWorldFor(t, auth.Anonymous{}, narrow{}, nil)
	w.run(exchange{do: push, want: 403, code: "DENIED", answer: "WWW-Authenticate:"}) // there is nobody to log in as
}

// forCatalog lets a token list, and pull from nothing: from "a" for want of scope, from anything else for want of a role.
type forCatalog struct{}

func (forCatalog) Authorize(ctx context.Context, s auth.Subject, want ...auth.Access) error {
	if s.Name == "pusher" || want[0].Action == auth.List {
		return nil
	}
	return narrow{scoped: want[0].Repository == "a"}.Authorize(ctx, s, want...)
}

// TestCatalogOfToken: a token that is for the catalog alone lists what its owner may pull from.
func TestCatalogOfToken(t *testing.T) {
	w := newWorldFor(t, byHeader{}, forCatalog{}, &Options{Challenge: explaining})
	for _, repository := range []string{"a", "b"} {
		w.run(exchange{do: "PUT /v2/" + repository + "/manifests/v1", header: "User: pusher\nContent-Type: " + indexType,
			body: `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]}`, want: 201})
	}
	w.run(
		exchange{do: "GET /v2/_catalog", header: "User: ann", want: 200, content: "{\"repositories\":[\"a\"]}\n"},
		exchange{do: "GET /v2/a/manifests/v1", header: "User: ann", want: 401},
		exchange{do: "GET /v2/b/manifests/v1", header: "User: ann", want: 403},
	)
}

// TestAnonymousIsToldHowToLogIn: whoever is let in without credentials may still want to log in.
func TestAnonymousIsToldHowToLogIn(t *testing.T) {
	w := newWorldFor(t, byHeader{}, rights{" pull ": true, "ann pull ": true}, &Options{Challenge: explaining})
	w.run(
		exchange{do: "GET /v2/", want: 200, answer: `WWW-Authenticate: Test error="<nil>"`},
		exchange{do: "GET /v2/", header: "User: ann", want: 200, answer: "WWW-Authenticate:"},
	)
}

// TestUploadsOfTwoUsers: an upload belongs to who began it, also among those who may push to the repository.
func TestUploadsOfTwoUsers(t *testing.T) {
	may := rights{}
	for _, line := range []string{"ann pull a", "ann push a", "bob pull a", "bob push a", "ann pull b", "ann push b"} {
		may[line] = true
	}
	w := newWorldFor(t, byHeader{}, may, nil)
	w.run(
		exchange{do: "POST /v2/a/blobs/uploads/", header: "User: ann", want: 202},
		exchange{do: "PATCH {loc}", header: "User: ann", body: "hello", want: 202},
		exchange{do: "GET {loc}", header: "User: bob", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		exchange{do: "PATCH {loc}", header: "User: bob", body: "!", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		exchange{do: "PUT {loc}?digest={hello}", header: "User: bob", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		exchange{do: "DELETE {loc}", header: "User: bob", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
	)
	w.names["elsewhere"] = strings.Replace(w.names["loc"], "/a/", "/b/", 1)
	w.run(
		exchange{do: "GET {elsewhere}", header: "User: ann", want: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		exchange{do: "PUT {loc}?digest={hello}", header: "User: ann", want: 201},
	)
}

// TestNaming: a policy of names holds for new repositories, those that are there stay in use.
func TestNaming(t *testing.T) {
	naming := policy.Naming{}
	w := newWorld(t, &Options{CheckName: func(name string) error { return naming.Check(name) }})
	push := func(name string) []exchange {
		return []exchange{
			{do: "POST /v2/" + name + "/blobs/uploads/?digest={empty}", body: "{}", want: 201},
			{do: "POST /v2/" + name + "/blobs/uploads/?digest={hello}", body: "hello", want: 201},
			{do: "PUT /v2/" + name + "/manifests/v1", header: "Content-Type: " + ociManifest, body: w.bodies["image"], want: 201},
		}
	}
	w.run(push("old")...)
	naming.ProjectName = true
	w.run(push("old")...)
	w.run(push("team/app")...)
	w.run(
		exchange{do: "POST /v2/new/blobs/uploads/", want: 400, code: "NAME_INVALID", says: "project"},
		exchange{do: "POST /v2/a/b/c/blobs/uploads/?digest={hello}", body: "hello", want: 400, code: "NAME_INVALID"},
		exchange{do: "POST /v2/new/blobs/uploads/?mount={hello}&from=old", want: 400, code: "NAME_INVALID"},
		exchange{do: "PUT /v2/new/manifests/v1", header: "Content-Type: " + ociManifest, body: w.bodies["image"], want: 400, code: "NAME_INVALID"},
		exchange{do: "GET /v2/new/manifests/v1", want: 404, code: "NAME_UNKNOWN"},
	)
}
