package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"berth/registry"
	"berth/registry/admin"
)

func newRepository(env environment) *cobra.Command {
	cmd := &cobra.Command{Use: "repository", Short: "Delete repositories", Example: "  berth repository delete team/app", Args: usage(noArgs)}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	r := newRemote(cmd, env)
	var force bool
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Delete a repository with all it has",
		Long: "delete removes all manifests, tags and referrers of a repository, and its name from the catalog. What blobs take is free once\n" +
			"the collection has run, after gc.grace. A push at the same time is either part of what goes, or makes a new repository. When\n" +
			"it was cut short, run it again. Immutable tags are refused without --force; storage.delete.enabled and read-only mode hold.",
		Example: "  berth repository delete team/app\n  berth repository delete team/app --force", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := registry.ParseName(args[0])
			if err != nil {
				return usageError{err}
			}
			path := "/v1/repositories/" + name.String()
			if force {
				path += "?force=true"
			}
			var done admin.Removal
			if err := r.do(cmd.Context(), http.MethodDelete, path, nil, &done); err != nil {
				return fmt.Errorf("repository delete: %w", err)
			}
			_, err = fmt.Fprintf(env.stdout, "deleted %s: %d manifests, %d links to blobs now and %d by the collection\n", name, done.Manifests, done.Links, done.Later)
			return err
		},
	}
	remove.Flags().BoolVar(&force, "force", false, "also delete immutable tags")
	cmd.AddCommand(remove)
	return cmd
}

func newPurge(env environment) *cobra.Command {
	var r *remote
	var in admin.PurgeRequest
	cmd := &cobra.Command{
		Use: "purge DIGEST", Short: "Remove a blob or manifest everywhere, at once",
		Long: "purge is for what must not be there, such as a secret that was pushed: it removes the bytes of a blob at once, its links in all\n" +
			"repositories, and manifests that have the digest. Manifests that name the blob stay, and cannot be pulled whole any more. With\n" +
			"--refuse it cannot be pushed again, until `berth purge --allow`. Immutable tags do not hold it back; storage.delete.enabled and\n" +
			"read-only mode do. Whoever pulled the blob has it, and what a secret opens is to be locked anew all the same.",
		Example: "  berth purge sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --refuse", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Refuse && in.Allow {
				return usageError{errors.New("--refuse and --allow are contrary to each other")}
			}
			d, err := registry.ParseDigest(args[0])
			if err != nil {
				return usageError{err}
			}
			in.Digest = d.String()
			var done admin.Purged
			if err := r.do(cmd.Context(), http.MethodPost, "/v1/purge", in, &done); err != nil {
				return fmt.Errorf("purge: %w", err)
			}
			if in.Allow {
				_, err = fmt.Fprintf(env.stdout, "%s can be pushed\n", d)
				return err
			}
			_, err = fmt.Fprintf(env.stdout, "purged %s: %s in %d objects\nrepositories that had it as a blob: %s\nas a manifest: %s\n", d, sizeText(done.Bytes), done.Objects,
				listed(done.Links), listed(done.Manifests))
			return err
		},
	}
	r = newRemote(cmd, env)
	cmd.Flags().BoolVar(&in.Refuse, "refuse", false, "refuse the blob from now on")
	cmd.Flags().BoolVar(&in.Allow, "allow", false, "purge nothing, and let a blob that is refused be pushed again")
	return cmd
}

func listed(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
