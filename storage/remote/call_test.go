package remote_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"berth/storage"
	"berth/storage/remote"
)

// TestLostReply checks what a call answers whose last attempt was refused: nothing that says that it had no effect, once an
// earlier attempt may have had one.
func TestLostReply(t *testing.T) {
	lost, early := errors.New("lost"), errors.New("too early")
	judge := func(err error) remote.Verdict {
		switch err {
		case lost:
			return remote.Verdict{Class: storage.ErrUnavailable, Retry: true, Uncertain: true}
		case early:
			return remote.Verdict{Class: storage.ErrUnavailable, Retry: true}
		}
		return remote.Verdict{Class: err}
	}
	for _, c := range []struct {
		name          string
		first, second error
		conditional   bool
		want          error
	}{
		{"full after a lost reply", lost, storage.ErrNoSpace, true, storage.ErrUnavailable},
		{"full after a lost reply, without a condition", lost, storage.ErrNoSpace, false, storage.ErrUnavailable},
		{"full after nothing was done", early, storage.ErrNoSpace, true, storage.ErrNoSpace},
		{"conflict after a lost reply", lost, storage.ErrConflict, true, storage.ErrUnavailable},
		{"conflict after nothing was done", early, storage.ErrConflict, true, storage.ErrConflict},
		{"absent after a lost reply", lost, fs.ErrNotExist, true, storage.ErrUnavailable},
		{"absent after a lost reply, without a condition", lost, fs.ErrNotExist, false, fs.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answers := []error{c.first, c.second}
			service := remote.Service{Judge: judge}
			err := service.Do(t.Context(), remote.Call{Operation: "put", Key: "k", Conditional: c.conditional}, func(context.Context) error {
				answer := answers[0]
				answers = answers[1:]
				return answer
			})
			for _, class := range []error{storage.ErrNoSpace, storage.ErrConflict, storage.ErrUnavailable, fs.ErrNotExist} {
				if errors.Is(err, class) != (class == c.want) {
					t.Errorf("the call answered %v, want %v alone", err, c.want)
				}
			}
		})
	}
}
