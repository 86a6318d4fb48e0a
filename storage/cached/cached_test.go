package cached_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

func TestReport(t *testing.T) {
	var got []string
	d := cached.New(memory.New(), &cached.Options{Report: func(key string, hit bool) { got = append(got, fmt.Sprint(key, " ", hit)) }})
	ctx := context.Background()
	d.Stat(ctx, "a/b")
	d.Stat(ctx, "a/b")
	d.Put(ctx, "a/b", strings.NewReader("x"), 1, storage.Cond{})
	storage.ReadAll(ctx, d, "a/b", 10)
	for range 2 {
		for range storage.Keys(ctx, d, "a/", "") {
		}
	}
	if want := []string{"a/b false", "a/b true", "a/b true", "a/ false", "a/ true"}; !slices.Equal(got, want) {
		t.Errorf("reported %v, want %v", got, want)
	}
}
