module hotpatch

go 1.26.0
