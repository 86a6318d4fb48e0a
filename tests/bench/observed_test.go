package main

import (
	"fmt"
	"testing"
)

// TestVariants holds that each variant is a configuration of its own.
func TestVariants(t *testing.T) {
	seen := map[string]string{}
	for _, v := range variants() {
		text := fmt.Sprintf(v.config, "127.0.0.1:1", "/x")
		if same, ok := seen[text]; ok {
			t.Errorf("%q is configured as %q is", v.name, same)
		}
		seen[text] = v.name
	}
}
