package registry_test

import (
	"bytes"
	"testing"

	"berth/registry"
	"berth/storage"
	"berth/storage/memory"
)

// TestDeriveKey: replicas of a store agree on a key, and nobody else does.
func TestDeriveKey(t *testing.T) {
	key := func(store storage.Driver, secret, purpose string) []byte {
		t.Helper()
		r, err := registry.Open(t.Context(), store, &registry.Options{Secret: []byte(secret)})
		if err != nil {
			t.Fatal(err)
		}
		k, err := r.DeriveKey(purpose)
		if err != nil || len(k) != 32 {
			t.Fatalf("%d bytes, %v", len(k), err)
		}
		return k
	}
	store := memory.New()
	first := key(store, "", "a")
	if !bytes.Equal(first, key(store, "", "a")) || !bytes.Equal(key(store, "s", "a"), key(memory.New(), "s", "a")) {
		t.Error("replicas do not agree")
	}
	for name, other := range map[string][]byte{
		"another purpose": key(store, "", "b"), "another store": key(memory.New(), "", "a"), "another secret": key(store, "s", "a"),
	} {
		if bytes.Equal(first, other) {
			t.Errorf("%s has the same key", name)
		}
	}
}

// TestOwnSecret opens a store in read-only mode before and after it has a secret.
func TestOwnSecret(t *testing.T) {
	store := memory.New()
	shares := func(secret string, readOnly bool) bool {
		t.Helper()
		r, err := registry.Open(t.Context(), store, &registry.Options{Secret: []byte(secret), ReadOnly: func() bool { return readOnly }})
		if err != nil {
			t.Fatal(err)
		}
		return r.SharesSecret()
	}
	if shares("", true) || !shares("a secret", true) || !shares("", false) || !shares("", true) {
		t.Error("it is not told who shares a secret")
	}
}
