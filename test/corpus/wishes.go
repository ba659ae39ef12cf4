package main

import "hotpatch/internal/diff"

// wishes says of each reason to refuse what would have to be done to patch
// such modules all the same.
var wishes = map[diff.Code]string{
	diff.DataLayout:             "prove of more moved fields that no object of the old layout is reached (objects made anew for each call, fields in former padding); for the rest convert or shadow the objects that exist, which needs their types",
	diff.UnpairedFunction:       "pair functions by more than bodies and neighbours (call graph, strings that they use, sizes of frames) and prove each such pair; functions that compilers split or inlined differently have no counterpart",
	diff.InitialValue:           "show that the variable is only read, or still has its old value in the process, and then write the new one, journalled",
	diff.ConstantData:           "write changed slots of tables in place, journalled, once it is proved that no thread is between two reads of them",
	diff.ConflictingPairs:       "weigh the references that disagree by what else their functions use; where compilers merged or split objects it cannot be decided",
	diff.UnpairedData:           "find the counterpart by who else uses the variable and by its neighbours' sizes",
	diff.UnsupportedModule:      "read modules without section headers or unwind information by their symbols; hand-made loaders and firmware need a restart in any case",
	diff.Labels:                 "follow what functions do with their labels through memory and calls",
	diff.Churn:                  "nothing: another compiler or profile is another program",
	diff.Constructor:            "run again only the part of the constructor that is new, which nobody can tell from machine code; restart",
	diff.OutsideFDE:             "compare hand-written assembly by symbols where there are any",
	diff.Undecodable:            "decode the bytes that are no instructions as the data that they are",
	diff.RemovedExport:          "show that no other module of the process imports the symbol, and look again when one is loaded",
	diff.IndirectJump:           "recognise more forms of jump tables",
	diff.ShortBranch:            "move what the branch would leave its place to",
	diff.NotPositionIndependent: "tell addresses from numbers by relocations, which ordinary builds do not keep",
	diff.JumpIntoEntry:          "steer behind the loop's head, or move the entry's instructions",
	diff.TLSLayout:              "nothing: threads that exist have no room",
	diff.LiveValue:              "show that no object holds the old number, or write the new one into those that do, which needs their types",
	diff.Signature:              "prove that every caller changed with it, also those in other modules",
	diff.LockProtocol:           "wait until no thread holds a lock of the old order",
	diff.NoEntryRoom:            "enter through a breakpoint or through the callers instead of a jump",
	diff.UnresolvedImport:       "resolve the symbol in the process by what the loader has",
}
