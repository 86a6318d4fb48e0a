package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"berth/configuration"
	"berth/registry/process"
)

func newServe(env environment) *cobra.Command {
	return &cobra.Command{
		Use: "serve [FILE]", Short: "Serve the registry",
		Long: "serve runs the registry that a file and the REGISTRY_* variables configure. Without FILE it takes the one named by\n" +
			"REGISTRY_CONFIGURATION_PATH, or the first there is of\n  " + strings.Join(configuration.DefaultPaths(), "\n  ") + "\n" +
			"SIGTERM and SIGINT let running requests finish (http.draintimeout); a second one does not wait. SIGHUP reads the\n" +
			"configuration again and puts in force what can change meanwhile; `berth reload` does that, too, and tells what came of it.",
		Example: "  berth serve config.yml\n  REGISTRY_STORAGE=inmemory berth serve config.yml",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			return serve(cmd.Context(), file, env)
		},
	}
}

// serve runs the registry until it is told to stop.
func serve(ctx context.Context, file string, env environment) error {
	file, c, warnings, err := process.Load(file, env.environ)
	if err != nil {
		printWarnings(env.stderr, warnings)
		return err
	}
	return process.Serve(ctx, file, c, warnings, process.Environment{Environ: env.environ, Stdout: env.stdout, Stderr: env.stderr, Version: version})
}
