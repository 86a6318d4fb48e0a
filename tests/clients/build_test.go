package clients

import (
	"testing"

	"berth/tests/harness"
)

// programs are the clients that the Go toolchain builds.
var programs = map[string]harness.Tool{
	"crane":    {Module: "github.com/google/go-containerregistry", Version: "v0.22.1", Program: "cmd/crane"},
	"regctl":   {Module: "github.com/regclient/regclient", Version: "v0.11.7", Program: "cmd/regctl"},
	"oras":     {Module: "oras.land/oras", Version: "v1.2.3", Program: "cmd/oras"},
	"helm":     {Module: "helm.sh/helm/v3", Version: "v3.22.0", Program: "cmd/helm"},
	"cosign":   {Module: "github.com/sigstore/cosign/v3", Version: "v3.1.3", Program: "cmd/cosign"},
	"notation": {Module: "github.com/notaryproject/notation", Version: "v1.3.2", Program: "cmd/notation"},
}

// installed returns a client written in Go, built where no run before has.
func installed(t *testing.T, name string) tool {
	t.Helper()
	program := programs[name]
	program.Name = name
	return tool{T: t, path: program.Path(t)}
}
