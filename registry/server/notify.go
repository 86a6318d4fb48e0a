package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
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
