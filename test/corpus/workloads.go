package main

// workloads are tried in the live cycle of their source.
var workloads = []workload{
	{
		source: "zip", modules: "bin/zip", program: "/usr/bin/zip", args: "-X -r out.zip in",
		input: `mkdir in; seq 1 5000 >in/a; touch -d @1000000000 in/a in`,
		does:  "packs a file and a folder",
	},
}
