// Package wasi is WASI preview 1 made deterministic: the same program with the
// same arguments, inputs and seed makes the same calls and gets the same
// answers on every machine and in every engine.
//
// # What a program sees
//
// One preopened directory, "/" (descriptor 3), holds the inputs at their paths
// and the folders /scratch, /out and /checkpoint. Inputs, and everything that
// is not below one of those three, are read-only. Listings are sorted by the
// bytes of the names, after "." and "..". Times are Epoch until the program sets
// them, inode numbers follow from paths and from the order of creation, owners
// and modes do not exist.
// Names are UTF-8 of at most MaxName bytes without control characters (EILSEQ),
// paths of at most MaxPath. Standard input is a file of this tree, or empty.
// Symbolic links among the inputs are followed inside this tree only; programs
// make relative ones in /scratch, and no hard links (ENOTSUP). The table of
// [Functions] says the rest.
//
// The clocks start at a time that the seed chooses and advance by ClockStep at
// each look; waiting in poll_oneoff advances them to the end of the wait at
// once. Randomness is ChaCha8 of the seed. There are no sockets (ENOTSOCK) and no
// signals (ENOTSUP).
//
// # Checkpoints
//
// What a program leaves in /checkpoint may be there, if its job asks for that, when
// the same copy runs again: after a crash, a restart or a later grant to the same node, until the copy is
// committed. It may as well be gone. A program that goes on from it starts with the
// clock and the randomness of a beginning, so that it has to save the state of its
// generators too; what it writes to /out and to standard output must be the same
// with and without a checkpoint, and whoever computes a unit whose program breaks
// this is found to be wrong. Write beside the last state and rename: a run can end
// between any two calls.
//
// # Ends
//
// Some calls end the program: proc_exit, output over its limit, and a failure
// of the host, which a program never sees as an error code because another
// machine would not have it. Call then reports that the engine must unwind, and
// Stopped tells why.
//
// # Host
//
// The tree is kept in memory; files keep their contents on disk under the same
// names, which is why a result can be read from there afterwards. A path of the
// program is resolved in memory only, component by component, and what reaches
// the host is free of links and of "..", below an [os.Root].
//
// A Process serves one program and is not safe for concurrent use.
package wasi
