package oidc_test

import (
	"fmt"
	"net/http/httptest"

	"berth/auth/oidc"
)

// CI jobs of one organisation, from their main branches, and who they are to the rules of access: each the user of its
// subject, in the group of its repository.
func ExampleNew() {
	authenticator, err := oidc.New(oidc.Options{Issuers: []oidc.Issuer{{
		URL:        "https://token.actions.githubusercontent.com",
		Audiences:  []string{"https://registry.example"},
		UserPrefix: "github:",
		Groups:     []oidc.Groups{{Claim: "repository", Prefix: "github:"}},
		Conditions: map[string][]string{"repository": {"acme/*"}, "ref": {"refs/heads/main", "refs/tags/**"}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.SetBasicAuth("any", "not a token")
	_, err = authenticator.Authenticate(r)
	fmt.Println(err)
	// Output: the token is invalid: the credentials are not of a kind that is known here: it is not a JWT
}
