package filesystem

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"berth/storage"
)

// TestFolderFirst wants the folder opened before each read of what is shared over NFS: its client then asks the server, and else may
// give what a name led to a minute ago.
func TestFolderFirst(t *testing.T) {
	for _, c := range []struct {
		traits traits
		shared bool
		opens  bool
	}{
		{traits{cachesNames: true}, true, true}, {traits{cachesNames: true}, false, false}, {traits{}, true, false},
		{traits{orders: true, syncsWhole: true}, true, false},
	} {
		d := start(t, Options{Shared: c.shared}, kindFilesystem, realSystem{})
		d.traits, d.syncer.traits = c.traits, c.traits
		d.folders.strangers = c.shared && !c.traits.orders
		put(t, d, "a/b", "x", storage.Cond{})
		watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(watch)
		if _, err := unix.InotifyAddWatch(watch, filepath.Join(d.objects, "a"), unix.IN_OPEN); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Stat(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
		// The events begin with that of the folder, which has no name, if there is one.
		var events [4 << 10]byte
		if _, err := unix.Read(watch, events[:]); err != nil {
			t.Fatal(err)
		}
		if opens := events[12] == 0 && events[13] == 0; opens != c.opens {
			t.Errorf("%+v: the folder is opened first: %t", c, opens)
		}
	}
}
