package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"berth/configuration"
	"berth/registry/process"
	"berth/storage/probe"
)

// probeStorage tries the storage of a configuration and prints what works. The error says that something does not that the
// registry needs.
func probeStorage(ctx context.Context, env environment, c *configuration.Config) error {
	steps := process.Probe(ctx, c.Storage, func(text string) { fmt.Fprintf(env.stderr, "berth: warning: %s\n", text) })
	var failed []string
	for _, step := range steps {
		if step.Needed && step.Err != nil && !errors.Is(step.Err, probe.ErrNotTried) {
			failed = append(failed, step.Name)
		}
	}
	if err := printSteps(env.stdout, c.Storage.Driver(), steps); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("the storage %s fails at what the registry needs: %s", c.Storage.Driver(), strings.Join(failed, ", "))
	}
	return nil
}

func printSteps(w io.Writer, driver string, steps []probe.Step) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TRIED\tRESULT\tTIME\tLOOK AT")
	var details []string
	for _, s := range steps {
		result, look := "works", ""
		switch {
		case errors.Is(s.Err, probe.ErrNotTried):
			result = "not tried"
		case s.Name == probe.Sign && errors.Is(s.Err, errors.ErrUnsupported):
			result = "none: the registry sends blobs itself"
		case s.Err != nil:
			result, look = "FAILS", lookAt(driver, s.Name)
			if !s.Needed {
				result = "fails, is not needed"
			}
			details = append(details, fmt.Sprintf("%s: %v", s.Name, s.Err))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.Name, result, s.Took.Round(time.Millisecond), look)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, text := range details {
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// A remedy is the keys that decide whether steps work, and the permissions that they take.
type remedy struct {
	who         string // the key that says who asks
	permissions map[string]string
	others      map[string]string // keys by step
}

var (
	s3Remedy = remedy{"storage.s3.accesskey",
		map[string]string{probe.Write: "s3:PutObject", probe.Read: "s3:GetObject", probe.List: "s3:ListBucket", probe.Delete: "s3:DeleteObject",
			probe.Large: "s3:PutObject, s3:AbortMultipartUpload"},
		map[string]string{probe.Create: "storage.replicas", probe.Replace: "storage.replicas", probe.Large: "storage.s3.chunksize",
			probe.DeleteConditional: "storage.s3.conditionaldelete", probe.Sign: "storage.s3.redirectendpoint, storage.redirect.disable"}}
	gcsRemedy = remedy{"storage.gcs.keyfile",
		map[string]string{probe.Write: "storage.objects.create", probe.Read: "storage.objects.get", probe.List: "storage.objects.list",
			probe.Delete: "storage.objects.delete", probe.Replace: "storage.objects.delete", probe.Sign: "iam.serviceAccounts.signBlob"},
		map[string]string{probe.Large: "storage.gcs.chunksize", probe.Sign: "storage.gcs.serviceaccount, storage.redirect.disable"}}
	azureRemedy = remedy{"storage.azure.credentials",
		map[string]string{probe.Write: "Storage Blob Data Contributor", probe.Sign: "Storage Blob Delegator"},
		map[string]string{probe.Large: "storage.azure.chunksize", probe.Sign: "storage.azure.accountkey, storage.redirect.disable"}}
)

// lookAt names the keys of the configuration that a failed step may be about. The error of opening names its own.
func lookAt(driver, step string) string {
	remedies := map[string]remedy{"s3": s3Remedy, "gcs": gcsRemedy, "azure": azureRemedy}
	r, ok := remedies[driver]
	switch {
	case driver == "filesystem", driver == "emptydir":
		return "storage." + driver + ".rootdirectory"
	case !ok || step == process.ProbeOpen:
		return ""
	}
	var keys []string
	if other, ok := r.others[step]; ok {
		keys = append(keys, other)
	}
	who := r.who
	if permission, ok := r.permissions[step]; ok {
		who += " (" + permission + ")"
	}
	return strings.Join(append(keys, who), ", ")
}
