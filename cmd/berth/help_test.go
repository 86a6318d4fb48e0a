package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/registry/process"
)

// TestReloadIsDocumented asks that the page on reloading name every key that a reload changes.
func TestReloadIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Reload\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, key := range process.Reloadable() {
		if !strings.Contains(section, "`"+key+"`") {
			t.Errorf("docs/operations.md, Reload, does not name %s", key)
		}
	}
}

// TestPlaceholders: what stands in backquotes in the text of a flag is what its help calls its value.
func TestPlaceholders(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		for _, below := range c.Commands() {
			visit(below)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); name != strings.ToUpper(name) {
				t.Errorf("the help of %s calls the value of --%s %q", c.CommandPath(), f.Name, name)
			}
		})
	}
	visit(newRoot(environment{stdout: io.Discard, stderr: io.Discard}))
}

// TestExamples asks of every command that its help have examples, and that these be command lines that it takes.
func TestExamples(t *testing.T) {
	root := func() *cobra.Command { return newRoot(environment{stdout: io.Discard, stderr: io.Discard}) }
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		for _, below := range c.Commands() {
			visit(below)
		}
		if c.Example == "" && c.Name() != "version" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			_, command, found := strings.Cut(line, "berth ")
			command, _, _ = strings.Cut(command, " |")
			named, args, err := root().Find(strings.Fields(command))
			if err == nil {
				err = named.ParseFlags(args)
			}
			if err == nil {
				err = named.ValidateArgs(named.Flags().Args())
			}
			if err != nil || !found || !strings.HasPrefix(named.CommandPath(), c.CommandPath()) {
				t.Errorf("%s has the example %q, which is of %q: %v", c.CommandPath(), line, named.CommandPath(), err)
			}
		}
	}
	visit(root())
}
