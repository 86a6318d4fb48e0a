package buckets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/storage"
	"berth/tests/content"
	"berth/tests/harness"
)

// rough is a network on which one of six requests fails while it is told to: before it was sent, with its reply lost, or with a
// reply that is cut.
type rough struct {
	on  atomic.Bool
	hit atomic.Int64
}

func (x *rough) network(next http.RoundTripper) http.RoundTripper {
	wire := harness.NewWire(next)
	wire.Plan(func(*http.Request) harness.Fault {
		if !x.on.Load() || rand.IntN(6) > 0 {
			return harness.Pass
		}
		x.hit.Add(1)
		return []harness.Fault{harness.Reset, harness.Lost, harness.Cut}[rand.IntN(3)]
	})
	return wire
}

// TestRough writes and reads over such a network: large objects in parts, and one object that many append to. What was
// acknowledged is there, once, and no parts are left.
func TestRough(t *testing.T) {
	// That emulator keeps twice what is sent twice to an upload in pieces; the strict service is as Google describes it.
	faithful := slices.DeleteFunc(services(), func(s service) bool { return s.name == "gcs" && *store == "" })
	each(t, faithful, func(t *testing.T, _ service, open opener) {
		through := &rough{}
		d := open(t, through.network)
		_, err := d.Put(t.Context(), "log", strings.NewReader("begin\n"), -1, storage.Absent())
		must(t, err)
		through.on.Store(true)
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() { roundTrip(t, d, w) })
			writers.Go(func() {
				for i := range 6 {
					if err := appendLine(t.Context(), d, fmt.Sprintf("%d.%d", w, i)); err != nil {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		writers.Wait()
		through.on.Store(false)
		body, _, err := storage.ReadAll(t.Context(), d, "log", 1<<20)
		lines := strings.Fields(string(body))
		slices.Sort(lines)
		if err != nil || len(lines) != 25 || len(slices.Compact(lines)) != 25 {
			t.Errorf("the log is %q, %v", lines, err)
		}
		tidied(t, d)
		t.Logf("%d requests failed", through.hit.Load())
	})
}

// tidied asks that nothing be left of uploads after one tidying, where a driver leaves any.
func tidied(t *testing.T, d storage.Driver) {
	tidier, ok := storage.As[storage.Tidier](d)
	if !ok {
		return
	}
	_, _, err := tidier.Tidy(t.Context(), time.Now().Add(time.Hour), nil)
	must(t, err)
	if n, _, err := tidier.Tidy(t.Context(), time.Now().Add(time.Hour), nil); err != nil || n != 0 {
		t.Errorf("after a Tidy there are %d uploads, %v", n, err)
	}
}

// roundTrip puts an object of three parts and reads it.
func roundTrip(t *testing.T, d storage.Driver, n int) {
	key, want := fmt.Sprintf("data/%d", n), string(content.Random(fmt.Sprint(t.Name(), n), 11<<20).Bytes)
	if _, err := d.Put(t.Context(), key, strings.NewReader(want), -1, storage.Cond{}); err != nil {
		t.Errorf("Put = %v", err)
		return
	}
	r, info, err := d.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Errorf("Open = %v", err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != want || info.Size != int64(len(want)) {
		t.Errorf("%s reads as %d bytes of %d, %v", key, len(got), len(want), err)
	}
}

// appendLine adds a line that nobody else adds, settling what it does not know by reading.
func appendLine(ctx context.Context, d storage.Driver, line string) error {
	for range 1000 {
		body, info, err := storage.ReadAll(ctx, d, "log", 1<<20)
		switch {
		case errors.Is(err, storage.ErrUnavailable) || errors.Is(err, io.ErrUnexpectedEOF):
			continue
		case err != nil:
			return err
		case slices.Contains(strings.Fields(string(body)), line):
			return nil
		}
		_, err = d.Put(ctx, "log", strings.NewReader(string(body)+line+"\n"), -1, storage.Match(info.Rev))
		if err == nil || !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrUnavailable) {
			return err
		}
	}
	return errors.New("too many conflicts")
}
