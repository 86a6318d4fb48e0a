package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"berth/configuration"
	"berth/registry/admin"
	"berth/registry/process"
)

func newDiff(env environment) *cobra.Command {
	var r *remote
	var against string
	cmd := &cobra.Command{
		Use: "diff FILE", Short: "Tell what a reload of another configuration would do",
		Long: "diff compares a configuration with what the running server has in force: which keys would change with a reload, and\n" +
			"which would wait for a restart. The server reads FILE with its own REGISTRY_* variables. It changes nothing, and fails where a\n" +
			"reload would. With --against it asks no server, and compares two files.",
		Example: "  berth config diff new.yml --config /etc/berth/config.yml\n  berth config diff new.yml --against old.yml",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var done admin.Reloaded
			var err error
			if against != "" {
				done, err = compareFiles(against, args[0], env)
			} else {
				var text []byte
				if text, err = os.ReadFile(args[0]); err == nil {
					err = r.do(cmd.Context(), http.MethodPost, "/v1/reload/preview", admin.Preview{Name: args[0], Text: string(text)}, &done)
				}
			}
			if err != nil {
				return fmt.Errorf("config diff: %w", err)
			}
			return printDiff(env, done)
		},
	}
	r = newRemote(cmd, env)
	cmd.Flags().StringVar(&against, "against", "", "a `FILE` to compare with, instead of asking the server")
	return cmd
}

// compareFiles compares the configurations of two files.
func compareFiles(before, after string, env environment) (done admin.Reloaded, err error) {
	var configs [2]*configuration.Config
	var warnings []configuration.Warning
	for i, file := range []string{before, after} {
		if _, configs[i], warnings, err = process.Load(file, env.environ); err != nil {
			return done, err
		}
	}
	for _, w := range warnings {
		done.Warnings = append(done.Warnings, w.String())
	}
	done.Changed, done.Restart = process.Compare(configs[0], configs[1])
	return done, nil
}

func printDiff(env environment, done admin.Reloaded) error {
	for _, warning := range done.Warnings {
		fmt.Fprintf(env.stderr, "berth: warning: %s\n", warning)
	}
	lines := "with a reload: " + cmp.Or(strings.Join(done.Changed, ", "), "no key changes") + "\n"
	if len(done.Restart) > 0 {
		lines += "after a restart: " + strings.Join(done.Restart, ", ") + "\n"
	}
	_, err := io.WriteString(env.stdout, lines)
	return err
}
