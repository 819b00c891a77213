// Command control-plane holds what a Kubernetes API server needs in one binary, for tests: each component is a subcommand.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: control-plane COMPONENT [flags]")
		os.Exit(2)
	}
	component := os.Args[1]
	os.Args = os.Args[1:] // every component parses os.Args itself and names itself after os.Args[0]
	var command *cobra.Command
	switch component {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kubectl":
		command = kubectl.NewDefaultKubectlCommand()
	default:
		fmt.Fprintf(os.Stderr, "control-plane: no component %q\n", component)
		os.Exit(2)
	}
	os.Exit(cli.Run(command))
}
