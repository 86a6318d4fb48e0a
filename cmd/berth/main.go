// Command berth is an OCI registry.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	_ "time/tzdata" // the image has no zones, and gc.schedule is by the local time

	"github.com/spf13/cobra"

	"berth/registry/process"
)

// version is set when a release is built: go build -ldflags "-X main.version=1.2.3".
var version = "devel"

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], environment{os.Environ(), os.Stdin, os.Stdout, os.Stderr}))
}

// An environment is what a process is given.
type environment struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// A usageError is a command line that makes no sense.
type usageError struct{ error }

// run runs a command line and returns the exit code.
func run(ctx context.Context, args []string, env environment) int {
	root := newRoot(env)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(*process.LoggedError)):
		return exitFailed
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(env.stderr, "berth: %s\n", line)
	}
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(env.stderr, "berth: usage: %s; `%s --help` tells more\n", cmd.UseLine(), cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func newRoot(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "berth [FILE]",
		Short: "An OCI registry for container images and artifacts",
		Long: "berth is an OCI registry in one program: docker, podman, skopeo and all others that speak the\n" +
			"distribution API push to it and pull from it. `berth FILE` is short for `berth serve FILE`.",
		Example:       "  berth serve config.yml\n  berth config check config.yml",
		Version:       versionText(),
		Args:          usage(commandOrFile),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return serve(cmd.Context(), args[0], env)
		},
	}
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().BoolP("version", "v", false, "print the version")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newServe(env), newConfig(env), newUser(env), newAuth(env), newTLS(env),
		newReload(env), newReadOnly(env), newLogLevel(env), newStatus(env),
		newGC(env), newGarbageCollect(env), newRepository(env), newPurge(env), newVersion(env))
	return root
}

// commandOrFile takes one file to serve. What looks like no path and is no file was meant to be a command, as was the first of several.
func commandOrFile(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	_, err := os.Stat(args[0])
	if len(args) == 1 && (err == nil || strings.ContainsAny(args[0], "./")) {
		return nil
	}
	problem := fmt.Sprintf("%q is neither a command nor a file", args[0])
	if len(args) > 1 {
		problem = fmt.Sprintf("%q is no command", args[0])
	}
	return errors.New(problem + suggestion(root, args[0]))
}

func newVersion(env environment) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: usage(noArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.stdout, versionText())
			return err
		},
	}
}

func versionText() string {
	return fmt.Sprintf("berth %s %s/%s %s", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// noArgs takes no arguments; one of a command that has others below it was meant to be one of them.
func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasAvailableSubCommands():
		return fmt.Errorf("%s takes no arguments, and got %q", cmd.CommandPath(), args[0])
	}
	return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], suggestion(cmd, args[0]))
}

func suggestion(cmd *cobra.Command, mistyped string) string {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(mistyped); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
}

// usage marks the errors of a check of arguments.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
