package registry_test

import (
	"slices"
	"testing"

	"berth/registry"
)

// TestRemovedByAnother pushes to a repository that this process saw in the catalog, and that another process has removed since.
func TestRemovedByAnother(t *testing.T) {
	f := newFixture(t, nil, nil)
	p := f.repository("team/app")
	f.pushBlob(p, "{}")
	f.pushBlob(p, "layer")
	body := image("first", digestOf([]byte("{}")), digestOf([]byte("layer")))
	if _, err := push(t.Context(), p, "v1", body); err != nil {
		t.Fatal(err)
	}
	other, err := registry.Open(t.Context(), f.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Repository(p.Name()).Remove(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if keys := f.keys("catalog/"); len(keys) != 0 {
		t.Fatalf("after the removal the catalog has %q", keys)
	}
	if _, err := push(t.Context(), p, "v2", body); err != nil {
		t.Fatal(err)
	}
	if keys := f.keys("catalog/"); !slices.Equal(keys, []string{"catalog/team/app!"}) {
		t.Errorf("after a push the catalog has %q", keys)
	}
}
