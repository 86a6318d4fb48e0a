package main

import (
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"berth/configuration"
	"berth/registry/process"
)

func newConfig(env environment) *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "Check and show configurations", Example: "  berth config check config.yml", Args: usage(noArgs)}
	config.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	config.AddCommand(newCheck(env), &cobra.Command{
		Use: "show [FILE]", Short: "Print the effective configuration and where each value comes from",
		Long:    "show prints all values, those of the file, the REGISTRY_* variables and the defaults. Secrets read ***.",
		Example: "  berth config show config.yml",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			_, c, err := load(args, env)
			if err != nil {
				return err
			}
			return c.Show(env.stdout)
		},
	}, newDiff(env))
	return config
}

func newCheck(env environment) *cobra.Command {
	var probing bool
	check := &cobra.Command{
		Use: "check [FILE]", Short: "Tell whether the server would accept a configuration",
		Long: "check reads a file and the REGISTRY_* variables as `berth serve` does, and lists all that is wrong with them.\n" +
			"It opens no storage and listens nowhere, but reads the files that auth and http.tls name, and fetches the keys of its token\n" +
			"server.\n\n" +
			"With --probe it also tries the storage: it writes, reads, lists and deletes some objects of its own, and one that is larger\n" +
			"than a part, asks for conditions that do not hold, and fetches a signed URL. A table tells what works, and which key to look\n" +
			"at for what does not; if the registry needs that, the exit status is 1. A server may use the storage meanwhile, and nothing is\n" +
			"left behind.",
		Example: "  berth config check config.yml\n  berth config check --probe config.yml\n  REGISTRY_STORAGE=inmemory berth config check config.yml",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, c, err := load(args, env)
			if err != nil {
				return err
			}
			if err := process.Check(cmd.Context(), c); err != nil {
				return err
			}
			if _, err = fmt.Fprintf(env.stdout, "%s: ok\n", file); err != nil || !probing {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop() // until then what was written is removed first
			return probeStorage(ctx, env, c)
		},
	}
	check.Flags().BoolVar(&probing, "probe", false, "try the storage, too")
	return check
}

// load reads the configuration for a command line and prints its warnings.
func load(args []string, env environment) (file string, c *configuration.Config, err error) {
	if len(args) > 0 {
		file = args[0]
	}
	file, c, warnings, err := process.Load(file, env.environ)
	printWarnings(env.stderr, warnings)
	return file, c, err
}

func printWarnings(w io.Writer, warnings []configuration.Warning) {
	for _, warning := range warnings {
		fmt.Fprintf(w, "berth: warning: %s\n", warning)
	}
}
