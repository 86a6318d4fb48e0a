package clients

import (
	"slices"
	"strings"
	"testing"
	"time"

	"berth/tests/harness"
)

// Credentials are what a user types.
type credentials struct{ user, password string }

// A cast are the users of a test by their parts: ann may push to team/**, bob pull from it, pat delete from it.
type cast struct {
	ann, bob, pat credentials
	strangers     map[string]credentials // who cannot log in
	open          bool                   // everybody may pull
	filters       bool                   // a catalog has only what one may pull
	nobody        []string               // what is told who did not log in
	refused       []string               // what is told who may not
	dismiss       func()                 // takes what bob has from him; nil: what he has ends by itself
}

// passwords are the users of a file of passwords.
func passwords(t *testing.T, users string) cast {
	return cast{
		ann: credentials{"ann", annPassword}, bob: credentials{"bob", bobPassword}, pat: credentials{"pat", patPassword},
		strangers: map[string]credentials{"a wrong password": {"ann", "wrong"}, "an unknown user": {"eve", annPassword}},
		filters:   true, nobody: unknown, refused: denied,
		dismiss: func() { berth(t).run("user", "remove", users, "bob") },
	}
}

// tooNarrow is what is told who has a token that does not do. The last are what containerd 1.6 and crane now and then say of any
// refusal in the middle of a push, of which they send a body again that they no longer have.
var tooNarrow = slices.Concat(unknown, denied, []string{"authorization failed", "closed pipe", "with Body length 0"})

// worlds are registries with a way to log in each, which speak TLS with the certificate in a folder unless that is "".
var worlds = []struct {
	name string
	open func(t *testing.T, dir string) (*harness.Server, cast)
}{
	{"always", func(t *testing.T, dir string) (*harness.Server, cast) {
		users := usersFile(t)
		return guardedFor(t, users, harness.Options{TLS: dir, Env: []string{"REGISTRY_AUTH_TOKENENDPOINT_MODE=always"}}), passwords(t, users)
	}},
	{"open", func(t *testing.T, dir string) (*harness.Server, cast) {
		users := usersFile(t)
		c := passwords(t, users)
		c.open, c.nobody = true, tooNarrow
		return guardedFor(t, users, harness.Options{TLS: dir, Env: []string{"REGISTRY_AUTH_ANONYMOUS=[pull]"}}), c
	}},
	{"ID", func(t *testing.T, dir string) (*harness.Server, cast) { return identified(t, dir) }},
	{"IDalways", func(t *testing.T, dir string) (*harness.Server, cast) {
		return identified(t, dir, "REGISTRY_AUTH_TOKENENDPOINT_MODE=always")
	}},
	{"server", func(t *testing.T, dir string) (*harness.Server, cast) {
		users := usersFile(t)
		server, env := newTokenServer(t, dir)
		c := passwords(t, users)
		for _, name := range []string{"stray", "late", "odd"} {
			c.strangers[tokenUsers[name]] = credentials{name, tokenUsers[name]}
		}
		c.nobody, c.refused, c.filters = tooNarrow, tooNarrow, false
		c.dismiss = func() { server.forget("bob") }
		return harness.Start(t, harness.Options{TLS: dir, Env: append(env, "REGISTRY_AUTH_HTPASSWD_PATH="+users)}), c
	}},
}

// identified runs a registry that takes ID tokens of a provider, beside passwords.
func identified(t *testing.T, dir string, env ...string) (*harness.Server, cast) {
	t.Helper()
	m, issuer := newIdentityProvider(t, dir)
	users := usersFile(t)
	s := guardedFor(t, users, harness.Options{TLS: dir, Env: append(env, issuer)})
	c := passwords(t, users)
	c.dismiss = nil
	staff := func(user string) credentials { return credentials{"anybody", idToken(t, m, user, "staff")} }
	c.ann, c.bob, c.pat = staff("ann"), staff("bob"), staff("pat")
	c.strangers["an ID token of who is not let in"] = credentials{"anybody", idToken(t, m, "ann", "guests")}
	audience := m.ClientID
	m.ClientID = "another"
	c.strangers["an ID token for another service"] = staff("ann")
	m.ClientID = audience
	m.FastForward(-2 * time.Hour)
	c.strangers["an expired ID token"] = staff("ann")
	other, _ := newIdentityProvider(t, dir)
	c.strangers["an ID token of another issuer"] = credentials{"anybody", idToken(t, other, "ann", "staff")}
	return s, c
}

// TestLogins does with each client, by each way to log in, in plain HTTP and over TLS of a private authority, what its users may
// do and what they may not.
func TestLogins(t *testing.T) {
	dir := selfSigned(t)
	for _, client := range accounts {
		t.Run(client.name, func(t *testing.T) {
			for _, world := range worlds {
				t.Run(world.name, func(t *testing.T) {
					t.Parallel()
					s, c := world.open(t, "")
					given(t, s)
					logins(t, client.open(t, way{s, ""}), c)
				})
				t.Run(world.name+"TLS", func(t *testing.T) {
					t.Parallel()
					s, c := world.open(t, dir)
					given(t, s)
					logins(t, client.open(t, way{s, trusting(t, dir)}), c)
				})
			}
		})
	}
}

func logins(t *testing.T, a account, c cast) {
	t.Helper()
	expect(t, "a push of nobody", a.push("team/app"), c.nobody...)
	for name, s := range c.strangers {
		if err := a.login(s.user, s.password); !a.lazy || !c.open {
			expect(t, "a login with "+name, err, slices.Concat(unknown, c.nobody)...)
		}
		_ = a.logout() // what was not kept needs none
	}

	expect(t, "ann's login", a.login(c.ann.user, c.ann.password))
	expect(t, "ann's push", a.push("team/app"))
	expect(t, "ann's pull", a.pull("team/app"))
	expect(t, "ann's push elsewhere", a.push("else/app"), c.refused...)
	if a.remove != nil {
		expect(t, "ann's delete", a.remove("team/app"), c.refused...)
	}
	if a.copy != nil {
		expect(t, "ann's copy", a.copy("team/given", "team/copied"))
		expect(t, "ann's copy to elsewhere", a.copy("team/given", "else/copied"), c.refused...)
		if !c.open {
			expect(t, "ann's copy from elsewhere", a.copy("else/app", "team/copied"), c.refused...)
		}
	}
	expect(t, "the logout", a.logout())
	expect(t, "a push after the logout", a.push("team/bob"), c.nobody...) // of what is not there: some ask before they push
	if c.open {
		expect(t, "a pull after the logout", a.pull("team/app"))
	} else {
		expect(t, "a pull after the logout", a.pull("team/app"), c.nobody...)
	}

	expect(t, "bob's login", a.login(c.bob.user, c.bob.password))
	expect(t, "bob's pull", a.pull("team/app"))
	expect(t, "bob's push", a.push("team/bob"), c.refused...)
	if a.catalog != nil {
		list, err := a.catalog()
		expect(t, "bob's catalog", err)
		if c.filters && (!strings.Contains(list, "team/given") || !c.open && strings.Contains(list, "else/app")) {
			t.Errorf("bob's catalog is %q", list)
		}
	}
	if c.dismiss != nil && !c.open {
		c.dismiss()
		refusedSoon(t, a, append(c.nobody, unknown...))
	}
	expect(t, "bob's logout", a.logout())

	expect(t, "pat's login", a.login(c.pat.user, c.pat.password))
	if a.remove != nil {
		expect(t, "pat's delete", a.remove("team/app"))
	}
}
