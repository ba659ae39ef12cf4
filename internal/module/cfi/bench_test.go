package cfi

import "testing"

func BenchmarkParse(b *testing.B) {
	l := systemLibraries[3]
	t := library(b, l.path, l.pkg)
	b.SetBytes(int64(len(t.Data)))
	for b.Loop() {
		if _, err := Parse(t.Data, t.Addr); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(t.FDEs)), "FDEs")
}

func BenchmarkRow(b *testing.B) {
	l := systemLibraries[3]
	t := library(b, l.path, l.pkg)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f := &t.FDEs[i%len(t.FDEs)]
		if _, err := f.Row(f.Start + (f.End-f.Start)/2); err != nil {
			b.Fatal(err)
		}
	}
}
