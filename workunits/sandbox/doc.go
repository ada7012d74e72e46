// Package sandbox runs one unit at a time in each of a few child processes,
// under limits, and answers what the unit did or why nothing can be said.
//
// # Promises
//
// The program gets deterministic WASI preview 1 (package wasi) and runs at the
// full speed of its engine: wasmtime where there is cgo, else wazero. A
// [Report] says only what every machine with the same task would say: an exit
// code, a trap, output over its limit. Everything else is a [Void]. A program
// that crashes its engine, loops for ever or eats memory costs its child, never
// the caller.
//
// # Children
//
// A child is the same binary started again with Config.Command. It loads one
// compiled program, answers with a ready frame, and then runs tasks, one at a
// time, each in a fresh instance. Frames go over its standard input and output:
// a length of 4 bytes, big endian, and a canonical record. The parent treats
// what a child sends as hostile. It stops (SIGSTOP), continues and kills
// children from outside and watches their time, memory and files itself; no
// engine runs in a slower, interruptible mode.
//
// A child ends with its standard input, and on Linux by a signal when its
// parent dies.
//
// # Compiled modules
//
// A program is compiled once for a machine, by a child that does nothing else and
// can write nowhere but into an empty folder of its own. When it has ended the
// parent seals what it wrote with a MAC and moves it into the cache, which children
// only read and which forgets the modules used longest ago. A folder that no parent
// holds any more goes when a pool is made. Before a child loads a module the parent
// checks its seal: one that is damaged, or of another engine or processor, is compiled
// again. Where there is no room for a module the child that runs the program compiles
// it for itself. [Pool.Compiling] tells what is going on.
//
// # Walls
//
// The engine is the first wall, and the others stand for the day when a program
// breaks it. On Linux each child is started from a thread of the parent that gave up
// gaining privileges and, by landlock, all files but its program, its compiled module
// and what the task names to be read ([Task.Reads]), and the folders of its own run and
// checkpoints, to write, and that has the children's priority, so that this holds from
// the first instruction. What other jobs are given and make is out of its reach, though
// it lies beside that. A child serves tasks of one folder and the same files to read
// alone, therefore, and ends before the folder is another task's. Before it reads
// anything of the program a child lowers its limits, keeps others out of its memory,
// and gives up all system calls but those of an engine: it has no sockets, starts no
// processes and reaches none. [Walls] tells what a system has; what could not be built
// is logged.
//
// Where Config.Groups finds that a control group was delegated to the process, the
// kernel holds each child to its memory and threads. [Grouped] tells of any node's.
//
// # Concurrency
//
// All methods of [Pool] may be called concurrently. Run blocks for as long as
// the unit runs; the started callback is called on Run's goroutine.
package sandbox
