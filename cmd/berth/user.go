package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/auth"
	"berth/auth/htpasswd"
	"berth/configuration"
)

// usersFile is what the commands below `berth user` have in common: the file is the first argument, or the one that a
// configuration names.
type usersFile struct {
	env    environment
	config string
}

func newUser(env environment) *cobra.Command {
	f := &usersFile{env: env}
	user := &cobra.Command{
		Use: "user", Short: "Keep the file of users and passwords (auth.htpasswd)",
		Long: "user adds, removes, lists and checks users in a file of auth.htpasswd. The file is the argument FILE, or the one\n" +
			"that the configuration of --config names. A server that runs sees changes within a second.\n" +
			"Passwords are asked for on the terminal, or read from standard input, one line; they are never arguments.",
		Example: "  berth user add users.htpasswd ann\n  echo \"$PASSWORD\" | berth user add --config config.yml ann",
		Args:    usage(noArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	user.PersistentFlags().StringVar(&f.config, "config", "", "take the file of users that this configuration `FILE` names")
	user.AddCommand(
		f.command("add [FILE] NAME", "Add a user, or give one a new password", "  berth user add users.htpasswd ann", 1, f.add),
		f.command("remove [FILE] NAME", "Remove a user", "  berth user remove users.htpasswd ann", 1, f.remove),
		f.command("list [FILE]", "List the users", "  berth user list users.htpasswd", 0, f.list),
		f.command("check [FILE] NAME", "Tell whether a password is a user's", "  berth user check users.htpasswd ann", 1, f.check),
	)
	return user
}

// command makes a command of a file and so many arguments more.
func (f *usersFile) command(use, short, example string, more int, run func(file string, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example + "\n" + strings.Replace(example, "users.htpasswd", "--config config.yml", 1),
		Args: usage(func(cmd *cobra.Command, args []string) error {
			if f.config == "" {
				return cobra.ExactArgs(more+1)(cmd, args)
			}
			return cobra.ExactArgs(more)(cmd, args)
		}),
		RunE: func(_ *cobra.Command, args []string) error {
			if f.config == "" {
				return run(args[0], args[1:])
			}
			_, c, err := load([]string{f.config}, f.env)
			if err != nil {
				return err
			}
			if c.Auth.HTPasswd == nil {
				return fmt.Errorf("%s has no auth.htpasswd", f.config)
			}
			return run(c.Auth.HTPasswd.Path, args)
		},
	}
}

func (f *usersFile) add(file string, args []string) error {
	if err := htpasswd.CheckName(args[0]); err != nil {
		return err
	}
	password, err := f.env.askPassword(args[0], true)
	if err != nil {
		return err
	}
	replaced, err := htpasswd.Add(file, args[0], password.Reveal())
	if err != nil {
		return fmt.Errorf("add a user: %w", err)
	}
	done := "added"
	if replaced {
		done = "has a new password"
	}
	_, err = fmt.Fprintf(f.env.stdout, "%s: %s\n", args[0], done)
	return err
}

func (f *usersFile) remove(file string, args []string) error {
	if err := htpasswd.Remove(file, args[0]); err != nil {
		return fmt.Errorf("remove a user: %w", err)
	}
	_, err := fmt.Fprintf(f.env.stdout, "%s: removed\n", args[0])
	return err
}

func (f *usersFile) list(file string, _ []string) error {
	users, err := htpasswd.List(file)
	if err != nil {
		return fmt.Errorf("list the users: %w", err)
	}
	for _, u := range users {
		if _, err := fmt.Fprintf(f.env.stdout, "%s\t%s\n", u.Name, u.Kind); err != nil {
			return err
		}
	}
	return nil
}

func (f *usersFile) check(file string, args []string) error {
	password, err := f.env.askPassword(args[0], false)
	if err != nil {
		return err
	}
	switch err := htpasswd.Check(file, args[0], password.Reveal()); {
	case errors.Is(err, auth.ErrCredentials):
		return fmt.Errorf("%s: this is not the password", args[0])
	case err != nil:
		return fmt.Errorf("check a user: %w", err)
	}
	_, err = fmt.Fprintf(f.env.stdout, "%s: ok\n", args[0])
	return err
}

// askPassword reads a password: on a terminal without showing it, twice when a mistake would go unnoticed, else the first
// line of standard input.
func (env environment) askPassword(user string, twice bool) (configuration.Secret, error) {
	var none configuration.Secret
	if f, ok := env.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		first, err := env.prompt(f, "password of "+user)
		if err != nil || !twice {
			return configuration.NewSecret(first), err
		}
		second, err := env.prompt(f, "the same again")
		if err == nil && first != second {
			err = errors.New("the two passwords differ")
		}
		return configuration.NewSecret(first), err
	}
	line, err := bufio.NewReader(io.LimitReader(env.stdin, 4<<10)).ReadString('\n')
	if err != nil && (err != io.EOF || line == "") {
		return none, fmt.Errorf("read the password from standard input: %w", err)
	}
	return configuration.NewSecret(strings.TrimRight(line, "\r\n")), nil
}

func (env environment) prompt(terminal *os.File, text string) (string, error) {
	if _, err := fmt.Fprintf(env.stderr, "%s: ", text); err != nil {
		return "", err
	}
	password, err := term.ReadPassword(int(terminal.Fd()))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	_, err = fmt.Fprintln(env.stderr)
	return string(password), err
}
