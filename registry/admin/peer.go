package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"

	"berth/auth"
)

// A peer is the user of the process at the other end of a connection, as the system tells it.
type peer struct {
	uid int
	err error
}

type peerKey struct{}

// withPeer is for [http.Server.ConnContext].
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func peerOf(c net.Conn) peer {
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return peer{err: errors.New("not a connection of a Unix socket")}
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return peer{err: err}
	}
	var p peer
	if err := raw.Control(func(fd uintptr) { p.uid, p.err = peerUID(int(fd)) }); err != nil {
		return peer{err: err}
	}
	return p
}

// Peers authenticates who sent a request through a [Socket] by the credentials that the system has of the other process
// (SO_PEERCRED, unix(7)): the user of this process, or root, by the name "uid:0". Errors match [auth.ErrDenied]. The
// permissions of the socket keep others out before; this holds also where they were changed.
type Peers struct{}

// Authenticate implements [auth.Authenticator].
func (Peers) Authenticate(r *http.Request) (auth.Subject, error) {
	p, ok := r.Context().Value(peerKey{}).(peer)
	switch {
	case !ok:
		return auth.Subject{}, fmt.Errorf("%w: not from a socket for commands", auth.ErrDenied)
	case p.err != nil:
		return auth.Subject{}, fmt.Errorf("find out who is at the other end of a connection: %w", p.err)
	case p.uid != 0 && p.uid != os.Geteuid():
		return auth.Subject{}, fmt.Errorf("%w: only root and the user number %d may, not %d", auth.ErrDenied, os.Geteuid(), p.uid)
	}
	return auth.Subject{Name: "uid:" + strconv.Itoa(p.uid)}, nil
}
