package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/auth"
	"berth/auth/guard"
	"berth/registry"
)

func newAuth(env environment) *cobra.Command {
	command := &cobra.Command{Use: "auth", Short: "Explain who may do what", Example: "  berth auth can-i user:ann push team-a/app", Args: usage(noArgs)}
	command.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	var config string
	canI := &cobra.Command{
		Use: "can-i SUBJECT ACTION [REPOSITORY]", Short: "Tell whether somebody may do something, and which binding decides",
		Long: "can-i decides as the server would by a configuration and its file of groups, and tells why. It exits with 1 when\n" +
			"the answer is no. SUBJECT is user:NAME, group:NAME (somebody in that group alone) or anonymous; ACTION is pull, push,\n" +
			"delete, list, admin or metrics. Without REPOSITORY it is about the registry as a whole.",
		Example: "  berth auth can-i user:ann push team-a/app --config config.yml\n  berth auth can-i anonymous pull team-a/app",
		Args:    usage(cobra.RangeArgs(2, 3)),
		RunE: func(_ *cobra.Command, args []string) error {
			subject, want, err := parseQuestion(args)
			if err != nil {
				return usageError{err}
			}
			_, c, err := load([]string{config}, env)
			if err != nil {
				return err
			}
			decision, err := guard.Decide(c, subject, want)
			if err != nil {
				return err
			}
			if !decision.Allowed {
				return errors.New("no: " + decision.Reason)
			}
			if want.Action == auth.Delete && !c.Storage.Delete.Enabled {
				return errors.New("no: storage.delete.enabled is false, so that nobody may delete over HTTP")
			}
			_, err = fmt.Fprintf(env.stdout, "yes: %s\n", decision.Reason)
			return err
		},
	}
	canI.Flags().StringVar(&config, "config", "", "the configuration, a `FILE`; by default the one that berth serve would take")
	command.AddCommand(canI)
	return command
}

func parseQuestion(args []string) (s auth.Subject, want auth.Access, err error) {
	kind, name, named := strings.Cut(args[0], ":")
	switch {
	case args[0] == "anonymous":
	case kind == "user" && named && name != "":
		s.Name = name
	case kind == "group" && named && name != "":
		s.Name, s.Groups = "somebody in "+name, []string{name}
	default:
		return s, want, fmt.Errorf("the subject %q is none of user:NAME, group:NAME and anonymous", args[0])
	}
	want.Action = auth.Action(args[1])
	known := []auth.Action{auth.Pull, auth.Push, auth.Delete, auth.List, auth.Admin, auth.Metrics}
	if !slices.Contains(known, want.Action) {
		return s, want, fmt.Errorf("there is no action %q; there are %v", args[1], known)
	}
	if len(args) > 2 {
		repository, err := registry.ParseName(args[2])
		if err != nil {
			return s, want, err
		}
		want.Repository = repository.String()
	}
	return s, want, nil
}
