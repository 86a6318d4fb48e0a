package filesystem

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"berth/storage"
)

// cancelling cancels a context when a content was made durable: the last moment at which a put can still be given up.
type cancelling struct {
	system
	cancel context.CancelFunc
}

func (c *cancelling) syncFile(f *os.File) error {
	err := c.system.syncFile(f)
	c.cancel()
	return err
}

// TestCloseAfterCancelledPut gives puts up at their last moment. They must not keep Close waiting.
func TestCloseAfterCancelledPut(t *testing.T) {
	sys := &cancelling{system: realSystem{}}
	d, err := open(context.Background(), Options{Root: t.TempDir()}, kindFilesystem, sys)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // each is noticed at one of two places, as it happens
		var ctx context.Context
		ctx, sys.cancel = context.WithCancel(context.Background())
		if _, err := d.Put(ctx, "a", strings.NewReader("x"), 1, storage.Cond{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a put whose caller left: %v", err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- d.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Close waits for puts that were given up")
	}
}
