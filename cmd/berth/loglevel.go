package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"berth/registry/admin"
)

func newLogLevel(env environment) *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use: "loglevel [error|warn|info|debug]", Short: "Tell or switch the level of the server's log",
		Long: "loglevel switches how much the server logs while it runs, or tells how much that is. It holds until it is switched back,\n" +
			"log.level is changed and reloaded, or the process ends.",
		Example:   "  berth loglevel debug --config /etc/berth/config.yml\n  berth loglevel",
		Args:      usage(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: admin.LogLevels(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var state admin.LogLevel
			var err error
			if len(args) == 0 {
				err = r.do(cmd.Context(), http.MethodGet, "/v1/loglevel", nil, &state)
			} else {
				err = r.do(cmd.Context(), http.MethodPut, "/v1/loglevel", admin.Level{Level: args[0]}, &state)
			}
			if err != nil {
				return fmt.Errorf("loglevel: %w", err)
			}
			line := state.Level
			if state.Level != state.Configured {
				line += ", switched by a command; the configuration says " + state.Configured
			}
			_, err = fmt.Fprintln(env.stdout, line)
			return err
		},
	}
	r = newRemote(cmd, env)
	return cmd
}
