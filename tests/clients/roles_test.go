package clients

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// farHost is an address that is nobody's (RFC 5737). It is in the certificates of these tests, and a proxy gets there: of
// loopback addresses the docker engine verifies no certificate.
const farHost = "192.0.2.1"

// revocation bounds the wait for a change of the file of users, which takes a second where the machine is not busy.
const revocation = 20 * time.Second

// A way is how a client gets to a registry: in plain HTTP, or over TLS by an authority of its own.
type way struct {
	*harness.Server
	authority string // the folder of ca.crt, "" in plain HTTP
}

// either returns the flags that a client wants for its way.
func (w way) either(plain, tls []string) []string {
	if w.authority == "" {
		return plain
	}
	return tls
}

// ca is the file of the authority.
func (w way) ca() string { return filepath.Join(w.authority, "ca.crt") }

// An account is a client as its user has it. Its functions return what the client says when it fails; those that it has not
// are nil.
type account struct {
	login              func(user, password string) error
	logout             func() error
	push, pull, remove func(repo string) error
	copy               func(from, to string) error // of the tag given
	catalog            func() (string, error)
	terse              bool // it does not show the message of an answer to a login
	lazy               bool // it sends no password where none is asked for
}

// accounts are the clients whose users log in. Where a client keeps a password without trying it, login tries it by a pull of
// the repository team/given.
var accounts = []struct {
	name string
	open func(*testing.T, way) account
}{
	{"docker", dockerAccount}, {"podman", podmanAccount}, {"buildah", buildahAccount}, {"skopeo", skopeoAccount}, {"ctr", ctrAccount},
	{"crane", craneAccount}, {"regctl", regctlAccount}, {"oras", orasAccount}, {"helm", helmAccount}, {"cosign", cosignAccount}, {"notation", notationAccount},
}

// TestRoles does with each client, in plain HTTP and over TLS, what its users may do and what they may not.
func TestRoles(t *testing.T) {
	dir, other := selfSigned(t), selfSigned(t)
	for _, client := range accounts {
		t.Run(client.name, func(t *testing.T) {
			t.Run("plain", func(t *testing.T) {
				t.Parallel()
				users := usersFile(t)
				w := way{guardedFor(t, users, harness.Options{}), ""}
				given(t, w.Server)
				roles(t, client.open(t, w), w.Server, users)
			})
			t.Run("TLS", func(t *testing.T) {
				t.Parallel()
				users := usersFile(t)
				w := way{guardedFor(t, users, harness.Options{TLS: dir}), trusting(t, other)}
				given(t, w.Server)
				a := client.open(t, w)
				expect(t, "a login where another authority is trusted", a.login("ann", annPassword), untrusted...)
				_ = a.logout() // there may be nothing to forget
				trust(t, w.authority, dir)
				roles(t, a, w.Server, users)
			})
		})
	}
}

// given pushes, as the administrator, an image into the repositories of these tests, for clients that need one to begin with.
func given(t *testing.T, s *harness.Server) {
	t.Helper()
	admin := *s.Client
	admin.User, admin.Password = "root", rootPassword
	for _, repo := range []string{"team/given", "team/app", "team/bob", "else/app"} {
		must(t, admin.Push(repo, givenImage(), "given"))
	}
}

func givenImage() content.Set {
	return content.Algorithm(content.Digest).Image("given", content.AMD64(), []int{1000}, nil)
}

// roles goes through the users: ann may push to team/**, bob pull from it, pat delete from it.
func roles(t *testing.T, a account, s *harness.Server, users string) {
	t.Helper()
	gone := []string{"not found", "unknown", "404", "no signatures"}
	expect(t, "a push of nobody", a.push("team/app"), unknown...)
	expect(t, "a login with a wrong password", a.login("ann", "wrong"), unknown...)
	why := []string{"cannot have a colon"}
	if a.terse {
		why = unknown
	}
	expect(t, "a login with a colon in the name", a.login("sys:ann", annPassword), why...)

	expect(t, "ann's login", a.login("ann", annPassword))
	expect(t, "ann's push", a.push("team/app"))
	expect(t, "ann's pull", a.pull("team/app"))
	expect(t, "ann's push elsewhere", a.push("else/app"), denied...)
	expect(t, "ann's pull from elsewhere", a.pull("else/app"), denied...)
	if a.remove != nil {
		expect(t, "ann's delete", a.remove("team/app"), denied...)
	}
	if a.copy != nil {
		expect(t, "ann's copy", a.copy("team/given", "team/copied"))
		expect(t, "ann's copy from elsewhere", a.copy("else/app", "team/copied"), denied...)
		expect(t, "ann's copy to elsewhere", a.copy("team/given", "else/copied"), denied...)
	}
	expect(t, "the logout", a.logout())
	expect(t, "a pull after the logout", a.pull("team/app"), unknown...)

	expect(t, "bob's login", a.login("bob", bobPassword))
	expect(t, "bob's pull", a.pull("team/app"))
	expect(t, "bob's push", a.push("team/bob"), denied...)
	if a.remove != nil {
		expect(t, "bob's delete", a.remove("team/app"), denied...)
	}
	if a.catalog != nil {
		list, err := a.catalog()
		expect(t, "bob's catalog", err)
		if !strings.Contains(list, "team/given") || strings.Contains(list, "else/app") {
			t.Errorf("bob's catalog is %q", list)
		}
	}
	revoked(t, a, users)

	expect(t, "pat's login", a.login("pat", patPassword))
	expect(t, "pat's push", a.push("team/bob"), denied...)
	if a.remove != nil {
		expect(t, "pat's delete", a.remove("team/app"))
		expect(t, "a pull of what was deleted", a.pull("team/app"), gone...)
	}
}

// revoked takes bob out of the file of users and asks that his kept password be refused soon.
func revoked(t *testing.T, a account, users string) {
	t.Helper()
	berth(t).run("user", "remove", users, "bob")
	refusedSoon(t, a, unknown)
}

// refusedSoon asks that bob, whose credentials were taken away while a client keeps them, be refused soon.
func refusedSoon(t *testing.T, a account, words []string) {
	t.Helper()
	var err error
	for end := time.Now().Add(revocation); err == nil && time.Now().Before(end); {
		err = a.pull("team/app")
	}
	expect(t, "a pull of bob, whom there is no more,", err, words...)
}

// expect asks that something end well, or with an error that says one of the words.
func expect(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	switch {
	case err == nil && len(words) > 0:
		t.Errorf("%s ends well", what)
	case err != nil && len(words) == 0:
		t.Errorf("%s: %v", what, err)
	case err != nil && !says(err, words):
		t.Errorf("%s says none of %q: %v", what, words, err)
	}
}

func says(err error, words []string) bool {
	text := strings.ToLower(err.Error())
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// trust makes the authority that is in dir the one of a folder.
func trust(t *testing.T, folder, dir string) {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(folder, "ca.crt"), ca, 0o644))
}

// far makes a proxy by which the registry is at farHost, and returns the variable that has a client use it and the address.
func far(t *testing.T, addr string) (variable, host string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tunnel(w, r, addr) })}
	go server.Serve(l)
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	return "HTTPS_PROXY=http://" + l.Addr().String(), net.JoinHostPort(farHost, port)
}

// tunnel answers a CONNECT with a connection to the address, whatever the request names.
func tunnel(w http.ResponseWriter, r *http.Request, addr string) {
	server, err := net.Dial("tcp", addr)
	if err != nil || r.Method != http.MethodConnect {
		http.Error(w, "only to the registry", http.StatusBadGateway)
		return
	}
	defer server.Close()
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, buffered) // either side may end it
	}()
	_, _ = io.Copy(client, server) // as above
}
