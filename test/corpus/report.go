package main

import (
	"fmt"
	"io"
	"time"
)

type report struct {
	when    time.Time
	tool    string
	results []*result
	missing []string
}

func (rep *report) write(w io.Writer) error { return nil }

func (rep *report) failures() []string { return nil }

// writeRefusals lists every reason of every refused file, one a line.
func (rep *report) writeRefusals(w io.Writer) error {
	fmt.Fprintln(w, "source\tpackage\tfile\tcode\tname\tdetail")
	for _, r := range rep.results {
		if r.Error != "" {
			fmt.Fprintf(w, "%s\t\t\tFAILED\t\t%s\n", r.Source, r.Error)
		}
		for _, f := range r.Files {
			for _, why := range f.Build.Reasons {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Source, f.Package, f.Path, why.Code, why.Name, why.Detail)
			}
			if f.Build.Error != "" {
				fmt.Fprintf(w, "%s\t%s\t%s\tFAILED %s\t\t%s\n", r.Source, f.Package, f.Path, f.Build.Verdict, f.Build.Error)
			}
		}
	}
	return nil
}
