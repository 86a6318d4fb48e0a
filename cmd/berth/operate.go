package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"berth/registry/admin"
	"berth/registry/health"
	"berth/registry/process"
)

func newReload(env environment) *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use: "reload", Short: "Have the server read its configuration again, and tell what changed",
		Long: "reload does what SIGHUP does, and tells what came of it. It puts in force what can change while the server runs,\n" +
			"and looks at the files of users, groups and certificates at once. A configuration or a file with an error changes no\n" +
			"key, and is an error of this command. What waits for a restart is listed: that is all but\n  " +
			strings.Join(process.Reloadable(), "\n  "),
		Example: "  berth reload\n  berth reload --config /etc/berth/config.yml\n  berth reload --socket /run/berth/socket",
		Args:    usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var done admin.Reloaded
			if err := r.do(cmd.Context(), http.MethodPost, "/v1/reload", nil, &done); err != nil {
				return fmt.Errorf("reload: %w", err)
			}
			return printReloaded(env, done)
		},
	}
	r = newRemote(cmd, env)
	return cmd
}

func printReloaded(env environment, done admin.Reloaded) error {
	for _, warning := range done.Warnings {
		fmt.Fprintf(env.stderr, "berth: warning: %s\n", warning)
	}
	lines := "reloaded: " + cmp.Or(strings.Join(done.Changed, ", "), "no key has changed") + "\n"
	if len(done.Restart) > 0 {
		lines += "after a restart: " + strings.Join(done.Restart, ", ") + "\n"
	}
	if done.ReadOnly.On != done.ReadOnly.Configured {
		lines += "read-only: " + describeReadOnly(done.ReadOnly) + "\n"
	}
	_, err := io.WriteString(env.stdout, lines)
	return err
}

func newReadOnly(env environment) *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use: "readonly", Short: "Have the server refuse changes, or take them again",
		Long: "readonly switches read-only mode while the server runs: pulls go on; pushes, deletes and tag moves are answered 405, and\n" +
			"nothing is written in the background. Requests that are under way are finished. The switch is of this one process: it\n" +
			"holds until it is switched back, storage.maintenance.readonly is changed and reloaded, or the process ends. Another reload\n" +
			"does not end it.",
		Example: "  berth readonly on --config /etc/berth/config.yml\n  berth readonly status\n  berth readonly off",
		Args:    usage(noArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	r = newRemote(cmd, env)
	add := func(use, short string, method string, in any) {
		cmd.AddCommand(&cobra.Command{
			Use: use, Short: short, Example: "  berth readonly " + use + " --config /etc/berth/config.yml", Args: usage(noArgs),
			RunE: func(cmd *cobra.Command, _ []string) error {
				var state admin.ReadOnly
				if err := r.do(cmd.Context(), method, "/v1/readonly", in, &state); err != nil {
					return fmt.Errorf("readonly: %w", err)
				}
				_, err := fmt.Fprintf(env.stdout, "read-only: %s\n", describeReadOnly(state))
				return err
			},
		})
	}
	add("on", "Refuse changes", http.MethodPut, admin.Switch{On: true})
	add("off", "Take changes", http.MethodPut, admin.Switch{On: false})
	add("status", "Tell whether changes are refused", http.MethodGet, nil)
	return cmd
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func describeReadOnly(state admin.ReadOnly) string {
	if state.On == state.Configured {
		return onOff(state.On)
	}
	return onOff(state.On) + ", switched by a command; the configuration says " + onOff(state.Configured) + ", as will be after a restart"
}

func newStatus(env environment) *cobra.Command {
	var r *remote
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Tell how the server is",
		Long: "status asks the server that runs with a configuration how it is: version, storage, whether requests and changes\n" +
			"are taken and if not, why, who may log in, read-only mode, uploads that were begun, and until when its certificates are good.",
		Example: "  berth status --config /etc/berth/config.yml\n  berth status --json | jq .storage.ready",
		Args:    usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s admin.Status
			if err := r.do(cmd.Context(), http.MethodGet, "/v1/status", nil, &s); err != nil {
				return fmt.Errorf("status: %w", err)
			}
			if asJSON {
				return printJSON(env.stdout, s)
			}
			return printStatus(env.stdout, s, time.Now())
		},
	}
	r = newRemote(cmd, env)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func describeHealth(h health.Report) string {
	reasons := strings.Join(h.Reasons, "; ")
	switch {
	case !h.Ready:
		return "not ready: " + reasons
	case !h.Writable:
		return "ready, but changes are refused: " + reasons
	}
	return "ready"
}

func printStatus(w io.Writer, s admin.Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("version", "%s", s.Version)
	row("process", "%d, since %s (%s)", s.PID, s.Started.Format(time.RFC3339), now.Sub(s.Started).Round(time.Second))
	row("configuration", "%s", s.Configuration)
	protocol := "http"
	if s.TLS {
		protocol = "https"
	}
	row("listening", "%s (%s)", strings.Join(s.Addresses, ", "), protocol)
	row("storage", "%s: %s", strings.TrimSpace(s.Storage.Driver+" "+s.Storage.Place), cmp.Or(s.Storage.Problem, "ready"))
	row("health", "%s", describeHealth(s.Health))
	row("auth", "%s", s.Auth)
	row("read-only", "%s", describeReadOnly(s.ReadOnly))
	if u := s.Uploads; u == nil {
		row("uploads", "unknown")
	} else if u.More {
		row("uploads", "more than %d begun, %d being received", u.Open, s.Receiving)
	} else {
		row("uploads", "%d begun, %d being received", u.Open, s.Receiving)
	}
	for _, c := range s.Requests {
		if c.MaxRunning == 0 {
			row("requests", "%s: %d running, without a limit", c.Name, c.Running)
		} else {
			row("requests", "%s: %d of %d running, %d of %d waiting", c.Name, c.Running, c.MaxRunning, c.Waiting, c.MaxWaiting)
		}
	}
	for _, l := range s.Limits {
		value := l.Value
		if value == "0" {
			value = "none"
		}
		row("limit", "%s %s", l.Key, value)
	}
	for _, c := range s.Certificates {
		row("certificate", "%s, until %s (%d days): %s", c.Setting, c.Expires.Format(time.DateOnly), int(c.Expires.Sub(now).Hours()/24), strings.Join(c.Names, ", "))
	}
	return t.Flush()
}
