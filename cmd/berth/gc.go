package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/registry"
	"berth/registry/admin"
	"berth/registry/gc"
	"berth/registry/process"
)

func newGC(env environment) *cobra.Command {
	g := &gcCommand{env: env}
	cmd := &cobra.Command{
		Use: "gc", Short: "Collect what nothing refers to, and tell about collections",
		Long: "gc is about the collection of a server that runs: what no manifest names any more is removed while it serves, without\n" +
			"stopping anything (docs/operations.md, \"Collection\"). For a server that is stopped there is `berth garbage-collect`.",
		Example: "  berth gc status\n  berth gc run --dry-run",
		Args:    usage(noArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g.remote = newRemote(cmd, env)
	cmd.PersistentFlags().BoolVar(&g.json, "json", false, "print JSON")
	cmd.AddCommand(g.newRun(), g.newStatus(), g.newHistory(), g.newWhy())
	return cmd
}

type gcCommand struct {
	env    environment
	remote *remote
	json   bool
}

func (g *gcCommand) newRun() *cobra.Command {
	var in admin.GCRequest
	cmd := &cobra.Command{
		Use: "run", Short: "Have the server collect now",
		Long: "run has the server collect now, and waits until that has ended: on a terminal with what is under way and a table in the end,\n" +
			"elsewhere, or with --json, as lines of JSON. To end the command ends the run, which does no harm. What was relied upon within\n" +
			"gc.grace stays. With --dry-run nothing is removed: what would be is listed, each with why and how much it is. While requests\n" +
			"come in, a run holds back; with --fast it does not, for a disk that is nearly full.",
		Example: "  berth gc run --config /etc/berth/config.yml\n  berth gc run --dry-run\n  berth gc run --json | jq 'select(.report).report'",
		Args:    usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.run(cmd.Context(), in)
		},
	}
	cmd.Flags().BoolVarP(&in.DryRun, "dry-run", "d", false, "remove nothing, and list what would be")
	cmd.Flags().BoolVar(&in.Fast, "fast", false, "do not hold back while requests are served, which then take longer")
	return cmd
}

func (g *gcCommand) run(ctx context.Context, in admin.GCRequest) error {
	show := runView{out: g.env.stdout, json: g.json || !isTerminal(g.env.stdout), dryRun: in.DryRun}
	if !show.json && isTerminal(g.env.stderr) {
		show.progress = g.env.stderr
	}
	err := g.remote.lines(ctx, http.MethodPost, "/v1/gc/run", in, show.line)
	show.clear()
	if err != nil {
		return fmt.Errorf("gc run: %w", err)
	}
	return show.problems()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A runView prints a run as it goes.
type runView struct {
	out      io.Writer
	progress io.Writer // a terminal; nil: there is none
	json     bool
	dryRun   bool
	report   *gc.Report // in the end
}

func (v *runView) line(text []byte) error {
	var l admin.GCLine
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("read the answer of the server: %w", err)
	}
	v.report = l.Report
	switch {
	case v.json:
		_, err := fmt.Fprintf(v.out, "%s\n", text)
		return err
	case l.Finding != nil:
		v.clear()
		return printFinding(v.out, *l.Finding, v.dryRun)
	case l.Progress != nil && v.progress != nil && len(l.Progress.Layers) > 0:
		layer := l.Progress.Layers[len(l.Progress.Layers)-1]
		removed, size := l.Progress.Removed()
		_, err := fmt.Fprintf(v.progress, "\r\033[K%s: %d looked at; %d objects removed in all, %s", layer.Name, layer.Examined, removed, sizeText(size))
		return err
	case l.Report != nil:
		v.clear()
		return printReport(v.out, l.Report)
	}
	return nil
}

func (v *runView) clear() {
	if v.progress != nil {
		_, _ = io.WriteString(v.progress, "\r\033[K") // of a terminal that is gone
	}
}

// problems is an error when something could not be read or removed.
func (v *runView) problems() error {
	if v.report == nil {
		return errors.New("gc run: the server ended before the run did")
	}
	return reportProblems(v.report)
}

func reportProblems(r *gc.Report) error {
	if r.Failed() == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("%d objects could not be read or removed; what they may refer to stays", r.Failed())}
	for _, l := range r.Layers {
		for _, p := range l.Problems {
			lines = append(lines, l.Name+": "+p)
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

func printFinding(w io.Writer, f gc.Finding, dryRun bool) error {
	verb := "removed"
	if dryRun {
		verb = "would remove"
	}
	touched := ""
	if !f.Touched.IsZero() {
		touched = ", " + f.Touched.UTC().Format(time.RFC3339)
	}
	_, err := fmt.Fprintf(w, "%s %s (%s%s): %s\n", verb, f.Key, sizeText(f.Bytes), touched, f.Why)
	return err
}

// printReport prints a table of the layers of a run that had something.
func printReport(w io.Writer, r *gc.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	removed := "removed"
	if r.DryRun {
		removed = "would be removed"
	}
	head := fmt.Sprintf("layer\tthere\t%s\tsize\ttoo young\tfailed\tseconds\t\n", removed)
	for _, l := range r.Layers {
		if l.Examined+l.Removed+l.Failed > 0 || l.Skipped != "" {
			_, _ = io.WriteString(t, head) // what fails, Flush says
			head = ""
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%d\t%d\t%.1f\t\n", l.Name, l.Examined, l.Removed, sizeText(l.Bytes), l.Young, l.Failed, l.Seconds)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, l := range r.Layers {
		if l.Skipped != "" {
			fmt.Fprintf(w, "%s: %s\n", l.Name, l.Skipped)
		}
	}
	n, size := r.Removed()
	_, err := fmt.Fprintf(w, "%d objects, %s: %s, in %.1f s with %d calls of the storage\n", n, sizeText(size), removed, r.Seconds, r.Calls)
	return err
}

func sizeText(n int64) string {
	unit, size := 0, float64(n)
	for ; size >= 1024 && unit < 5; unit++ {
		size /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", size, " KMGTP"[unit])
}

func (g *gcCommand) newStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell whether a collection is under way, what the last one did, and when the next begins",
		Example: "  berth gc status --config /etc/berth/config.yml\n  berth gc status --json | jq .last.layers", Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s admin.GCStatus
			err := g.ask(cmd.Context(), "/v1/gc/status", &s, func(ctx context.Context, from *process.Stopped) (err error) {
				s, err = from.CollectionStatus(ctx)
				return err
			})
			if err != nil {
				return fmt.Errorf("gc status: %w", err)
			}
			if g.json {
				return printJSON(g.env.stdout, s)
			}
			return printGCStatus(g.env.stdout, s)
		},
	}
}

func printGCStatus(w io.Writer, s admin.GCStatus) error {
	plan := "off (gc.enabled)"
	if s.Enabled {
		plan = s.Schedule
	}
	fmt.Fprintf(w, "collections: %s\ngrace: %s\n", plan, s.Grace)
	if !s.Next.IsZero() {
		fmt.Fprintf(w, "next: about %s\n", s.Next.Format(time.RFC3339))
	}
	if s.Running != nil {
		removed, size := s.Running.Removed()
		layer := "its beginning"
		if n := len(s.Running.Layers); n > 0 {
			layer = s.Running.Layers[n-1].Name
		}
		fmt.Fprintf(w, "under way: at %s, %d objects removed, %s\n", layer, removed, sizeText(size))
	}
	if s.Last == nil {
		_, err := fmt.Fprintln(w, "last: none yet")
		return err
	}
	fmt.Fprintf(w, "last: %s by %s%s\n", s.Last.Started.Format(time.RFC3339), s.Last.Holder, stoppedWhy(s.Last))
	return printReport(w, s.Last)
}

func stoppedWhy(r *gc.Report) string {
	if r.Stopped == "" {
		return ""
	}
	return ", stopped: " + r.Stopped
}

func (g *gcCommand) newHistory() *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use: "history", Short: "Tell what the last collections did, the newest first",
		Example: "  berth gc history -n 3\n  berth gc history --json | jq '.[0]'", Args: usage(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n < 1 {
				return usageError{fmt.Errorf("--number must be at least 1, not %d", n)}
			}
			var reports []*gc.Report
			err := g.ask(cmd.Context(), "/v1/gc/history?n="+strconv.Itoa(n), &reports, func(ctx context.Context, from *process.Stopped) (err error) {
				reports, err = from.Collector.History(ctx, n)
				return err
			})
			if err != nil {
				return fmt.Errorf("gc history: %w", err)
			}
			if g.json {
				return printJSON(g.env.stdout, reports)
			}
			return printHistory(g.env.stdout, reports)
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", admin.DefaultHistory, "how many of them, `N`")
	return cmd
}

func printHistory(w io.Writer, reports []*gc.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "started\tby\tseconds\tremoved\tsize\tfailed\tcalls\tended")
	for _, r := range reports {
		n, size := r.Removed()
		fmt.Fprintf(t, "%s\t%s\t%.1f\t%d\t%s\t%d\t%d\t%s\n", r.Started.Format(time.RFC3339), r.Holder, r.Seconds, n, sizeText(size), r.Failed(), r.Calls,
			cmp.Or(strings.TrimPrefix(stoppedWhy(r), ", "), "well"))
	}
	return t.Flush()
}

func (g *gcCommand) newWhy() *cobra.Command {
	return &cobra.Command{
		Use: "why DIGEST", Short: "Tell what keeps a blob, or when it may go",
		Long: "why looks for all that keeps a blob: the repositories that may serve it, and the manifests there that name it. It lists\n" +
			"everything that repositories have, which may take long in a large registry.",
		Example: "  berth gc why sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := registry.ParseDigest(args[0])
			if err != nil {
				return usageError{err}
			}
			var why *gc.Why
			err = g.ask(cmd.Context(), "/v1/gc/why/"+url.PathEscape(d.String()), &why, func(ctx context.Context, from *process.Stopped) (err error) {
				why, err = from.Collector.Why(ctx, d)
				return err
			})
			if err != nil {
				return fmt.Errorf("gc why: %w", err)
			}
			if g.json {
				return printJSON(g.env.stdout, why)
			}
			return printWhy(g.env.stdout, why)
		},
	}
}

func printWhy(w io.Writer, y *gc.Why) error {
	switch {
	case y.Refused:
		fmt.Fprintln(w, "it was purged, and is refused from now on")
	case y.Exists:
		fmt.Fprintf(w, "%s, relied upon at %s\n", sizeText(y.Size), y.Touched.Format(time.RFC3339))
	default:
		fmt.Fprintln(w, "there is no such blob; manifests stay until they are deleted")
	}
	if y.Damaged != "" {
		fmt.Fprintf(w, "damaged: %s\n", y.Damaged)
	}
	for _, l := range y.Links {
		fmt.Fprintf(w, "%s may serve it, last relied upon at %s\n", l.Repository, l.Touched.Format(time.RFC3339))
		for _, m := range l.Manifests {
			fmt.Fprintf(w, "  named by %s\n", m)
		}
		for _, m := range l.Unread {
			fmt.Fprintf(w, "  kept because a manifest cannot be read: %s\n", m)
		}
	}
	var err error
	switch {
	case y.Kept:
		_, err = fmt.Fprintln(w, "it stays")
	case !y.MayGo.IsZero():
		_, err = fmt.Fprintf(w, "nothing names it: it may go from %s on, with the next run\n", y.MayGo.Format(time.RFC3339))
	}
	return err
}

// isUnserved reports whether an error says that there is nobody to ask.
func isUnserved(err error) bool {
	_, noSocket := errors.AsType[noSocketError](err)
	_, nobody := errors.AsType[*admin.NobodyError](err)
	return noSocket || nobody && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED))
}

// ask asks the server; where none answers, look looks into the store itself.
func (g *gcCommand) ask(ctx context.Context, path string, out any, look func(context.Context, *process.Stopped) error) error {
	err := g.remote.do(ctx, http.MethodGet, path, nil, out)
	if g.remote.socket != "" || !isUnserved(err) {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM) // what was opened is to be closed
	defer stop()
	from, openErr := openStopped(ctx, g.env, g.remote.config, false)
	if openErr != nil {
		return fmt.Errorf("%w\nnor can this command look itself: %w", err, openErr)
	}
	return errors.Join(look(ctx, from), from.Close())
}
