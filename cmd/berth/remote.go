package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"berth/configuration"
	"berth/registry/admin"
)

// A remote is how a command finds the server that it is for.
type remote struct {
	env    environment
	config string
	socket string
}

// newRemote adds the flags by which a command finds the server.
func newRemote(cmd *cobra.Command, env environment) *remote {
	r := &remote{env: env}
	flags := cmd.PersistentFlags()
	flags.StringVar(&r.config, "config", "", "the configuration of the server, a `FILE`; by default the one that berth serve would take")
	flags.StringVar(&r.socket, "socket", "", "the `PATH` of the socket of the server (http.admin.socket), instead of finding it by the configuration")
	return r
}

// do asks the server; see [admin.Client.Do].
func (r *remote) do(ctx context.Context, method, path string, in, out any) error {
	socket, err := r.find()
	if err != nil {
		return err
	}
	return explainRemote(admin.NewClient(socket).Do(ctx, method, path, in, out))
}

// lines asks the server for an answer in lines; see [admin.Client.Lines].
func (r *remote) lines(ctx context.Context, method, path string, in any, got func([]byte) error) error {
	socket, err := r.find()
	if err != nil {
		return err
	}
	return explainRemote(admin.NewClient(socket).Lines(ctx, method, path, in, got))
}

// explainRemote says what to do about an error.
func explainRemote(err error) error {
	if errors.As(err, new(*admin.NobodyError)) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w\nstart the server with `berth serve`, or say which one is meant: --config FILE or --socket PATH", err)
	}
	var problem *admin.Problem
	if errors.As(err, &problem) && problem.Status >= 500 {
		return fmt.Errorf("%w (request id %s)", err, problem.RequestID)
	}
	return err
}

// find returns the path of the socket. What is wrong elsewhere in the configuration is for the server to say.
func (r *remote) find() (string, error) {
	if r.socket != "" {
		return r.socket, nil
	}
	file, err := configuration.Path(r.config, r.env.environ, configuration.DefaultPaths())
	if err != nil {
		return "", err
	}
	c, err := configuration.LoadSections(file, r.env.environ, "storage", "http.admin")
	if err != nil {
		return "", fmt.Errorf("%w\nthe server was not asked: name its socket (--socket) to reach it without the configuration", err)
	}
	socket, _ := c.AdminSocket()
	switch {
	case c.HTTP.Admin.Disabled:
		return "", noSocketError(file + " turns the socket for commands off (http.admin.disabled)")
	case socket == "":
		return "", noSocketError(file + " has no socket for commands: set http.admin.socket and restart the server")
	}
	return socket, nil
}

// A noSocketError says why a server cannot be asked, whether or not one runs.
type noSocketError string

func (e noSocketError) Error() string { return string(e) }

// printJSON prints a value for programs.
func printJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}
