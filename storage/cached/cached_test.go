package cached_test

import (
	"testing"

	"berth/storage"
	"berth/storage/cached"
	"berth/storage/memory"
	"berth/storage/storagetest"
)

func TestSuite(t *testing.T) {
	for name, options := range map[string]*cached.Options{
		"default": nil,
		"tiny":    {Bytes: 1 << 20, Largest: 64}, // most objects do not fit, the others push each other out
		"skip":    {Skip: func(key string) bool { return len(key)%2 == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			storagetest.Test(t, func(*testing.T) storage.Driver { return cached.New(memory.New(), options) })
		})
	}
}
