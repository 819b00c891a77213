// dashboard checks a dashboard against the schema of Grafana: `dashboard FILE`.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("usage: dashboard FILE"))
	}
	text, err := os.ReadFile(os.Args[1])
	fail(err)
	var found dashboard.Dashboard
	fail(found.UnmarshalJSONStrict(text))
	fail(found.Validate())
}

// fail ends the program with an error. The library returns an empty list of faults where there is none.
func fail(err error) {
	var faults cog.BuildErrors
	if err == nil || errors.As(err, &faults) && len(faults) == 0 {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
