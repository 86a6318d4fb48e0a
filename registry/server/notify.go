package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
)

// A supervisor is the service manager that started the process, as sd_notify(3) reaches it. Without one, nothing is sent.
type supervisor struct{ getenv func(string) string }

// tell sends a state, such as "READY=1".
func (s supervisor) tell(state string) error {
	path := s.getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// Reloading tells the service manager that a reload begins; what it returns tells that it is over, as sd_notify(3) asks for:
// whether it went well the command that asked for it, and the log, tell.
func Reloading(log logrus.FieldLogger) (done func()) {
	s := supervisor{os.Getenv}
	tell := func(state string) {
		if err := s.tell(state); err != nil {
			log.WithError(err).Warn("the service manager was not told of a reload")
		}
	}
	tell("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(monotonic(), 10))
	return func() { tell("READY=1") }
}

// watchdog tells the supervisor that the process lives, twice as often as it asks for, until ctx ends.
func (s supervisor) watchdog(ctx context.Context) {
	micros, err := strconv.ParseInt(s.getenv("WATCHDOG_USEC"), 10, 64)
	pid := s.getenv("WATCHDOG_PID")
	if err != nil || micros < 2 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return
	}
	tick := time.NewTicker(time.Duration(micros) * time.Microsecond / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.tell("WATCHDOG=1") // a supervisor that hears nothing restarts us, which is what it is for
		}
	}
}
