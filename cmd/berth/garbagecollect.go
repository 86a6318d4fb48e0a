package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"berth/registry/gc"
	"berth/registry/process"
)

// An offline is what `berth garbage-collect` was told.
type offline struct {
	dryRun, untagged, quiet, allStopped bool
}

func newGarbageCollect(env environment) *cobra.Command {
	var o offline
	cmd := &cobra.Command{
		Use: "garbage-collect [FILE]", Short: "Collect what nothing refers to while the server is stopped",
		Long: "garbage-collect removes what no manifest names from the storage of a server that is stopped, at once: there is no grace. It\n" +
			"refuses while a server has the storage, and no server can start meanwhile. Where several servers can share the storage (a\n" +
			"bucket, or filesystem.shared) it cannot find out whether all are stopped: say so with --all-stopped. A push to one that is\n" +
			"not could lose what it has just pushed. Nothing needs to be stopped for `berth gc run`.\n" +
			"storage.maintenance.readonly is for servers, and does not hold it back. Run it as the user that the server runs as.",
		Example: "  berth garbage-collect /etc/berth/config.yml\n  berth garbage-collect --dry-run --delete-untagged /etc/berth/config.yml",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if err := o.collect(ctx, env, file); err != nil {
				return fmt.Errorf("garbage-collect: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.dryRun, "dry-run", "d", false, "remove nothing, and list what would be")
	flags.BoolVarP(&o.untagged, "delete-untagged", "m", false, "also delete manifests that no tag leads to, nor an index or a subject that one leads to")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but errors")
	flags.BoolVar(&o.allStopped, "all-stopped", false, "all servers of a storage that several can share are stopped")
	return cmd
}

func (o offline) collect(ctx context.Context, env environment, file string) (err error) {
	s, err := openStopped(ctx, env, file, true)
	if err != nil {
		return fmt.Errorf("%w\n`berth gc run` collects while a server runs", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if !s.Exclusive && !o.allStopped {
		return errors.New("several servers can share this storage, and whether all are stopped cannot be found out: stop them and say so with --all-stopped\n" +
			"`berth gc run` collects while they run")
	}
	out := env.stdout
	if o.quiet {
		out = io.Discard
	}
	var mu sync.Mutex
	report, err := s.Collector.Run(ctx, gc.RunOptions{Alone: true, DryRun: o.dryRun, Untagged: o.untagged, Found: func(f gc.Finding) {
		mu.Lock()
		defer mu.Unlock()
		_ = printFinding(out, f, o.dryRun) // what went is in the report
	}})
	if err != nil {
		return err
	}
	if err := printReport(out, report); err != nil {
		return err
	}
	return reportProblems(report)
}

// openStopped opens the store of a server that is stopped; see [process.OpenStopped].
func openStopped(ctx context.Context, env environment, file string, change bool) (*process.Stopped, error) {
	return process.OpenStopped(ctx, file, env.environ, change, func(text string) { fmt.Fprintf(env.stderr, "berth: warning: %s\n", text) })
}
