package wasi

// ModuleName is what programs import the functions from.
const ModuleName = "wasi_snapshot_preview1"

// Function is the type of one function of preview 1. Each parameter is 'i'
// (i32) or 'I' (i64). All return one i32 but proc_exit, which returns nothing.
type Function struct {
	Name   string
	Params string
	call   func(*Process, []uint64) Errno
}

// Results is the number of i32 results.
func (f Function) Results() int {
	if f.Name == "proc_exit" {
		return 0
	}
	return 1
}

// Functions lists the whole of preview 1. The caller does not change it.
func Functions() []Function { return functions }

// The table says of each function what a program may count on, beside the
// interface's own words. A number or pointer that makes no sense is EBADF,
// EINVAL or EFAULT everywhere.
var functions = []Function{
	{"args_get", "ii", (*Process).argsGet},                                  // "program", then the unit's arguments
	{"args_sizes_get", "ii", (*Process).argsSizesGet},                       // their number and bytes
	{"environ_get", "ii", (*Process).environGet},                            // the job's variables, nothing of the host
	{"environ_sizes_get", "ii", (*Process).environSizesGet},                 // their number and bytes
	{"clock_res_get", "ii", (*Process).clockResGet},                         // ClockStep, for all four clocks
	{"clock_time_get", "iIi", (*Process).clockTimeGet},                      // the virtual clock, which steps; real time counts from a time of the seed
	{"fd_advise", "iIIi", (*Process).fdAdvise},                              // checked, without effect
	{"fd_allocate", "iII", (*Process).fdAllocate},                           // a file as long as that, filled with zeros
	{"fd_close", "i", (*Process).fdClose},                                   // any descriptor, "/" too
	{"fd_datasync", "i", (*Process).fdSync},                                 // durable in /checkpoint, else without effect
	{"fd_fdstat_get", "ii", (*Process).fdFdstatGet},                         // kind, flags and rights of the descriptor
	{"fd_fdstat_set_flags", "ii", (*Process).fdFdstatSetFlags},              // append acts, the other flags are kept and without effect
	{"fd_fdstat_set_rights", "iII", (*Process).fdFdstatSetRights},           // rights are given up, never gained (ENOTCAPABLE)
	{"fd_filestat_get", "ii", (*Process).fdFilestatGet},                     // size and kind are real; device 1, one link, times as set or Epoch
	{"fd_filestat_set_size", "iI", (*Process).fdFilestatSetSize},            // cut, or filled with zeros
	{"fd_filestat_set_times", "iIIi", (*Process).fdFilestatSetTimes},        // kept for this run; now is the virtual clock; EROFS where nothing can be written
	{"fd_pread", "iiiIi", (*Process).fdPread},                               // as much as there is: never short inside a file
	{"fd_prestat_get", "ii", (*Process).fdPrestatGet},                       // "/" is descriptor 3, the only one
	{"fd_prestat_dir_name", "iii", (*Process).fdPrestatDirName},             // "/"
	{"fd_pwrite", "iiiIi", (*Process).fdPwrite},                             // all or nothing
	{"fd_read", "iiii", (*Process).fdRead},                                  // as much as there is: never short inside a file
	{"fd_readdir", "iiiIi", (*Process).fdReaddir},                           // ".", "..", then names sorted by bytes; a listing stays as it began until cookie 0
	{"fd_renumber", "ii", (*Process).fdRenumber},                            // both have to be open
	{"fd_seek", "iIii", (*Process).fdSeek},                                  // EBADF for a folder
	{"fd_sync", "i", (*Process).fdSync},                                     // durable in /checkpoint, else without effect
	{"fd_tell", "ii", (*Process).fdTell},                                    // EBADF for a folder
	{"fd_write", "iiii", (*Process).fdWrite},                                // all or nothing
	{"path_create_directory", "iii", (*Process).pathCreateDirectory},        // in /out, /scratch and /checkpoint, else EROFS
	{"path_filestat_get", "iiiii", (*Process).pathFilestatGet},              // as fd_filestat_get
	{"path_filestat_set_times", "iiiiIIi", (*Process).pathFilestatSetTimes}, // as fd_filestat_set_times
	{"path_link", "iiiiiii", (*Process).notSupported},                       // ENOTSUP: the bytes of a result are counted by file
	{"path_open", "iiiiiIIii", (*Process).pathOpen},                         // lowest free number; at most maxFDs
	{"path_readlink", "iiiiii", (*Process).pathReadlink},                    // links among the inputs, and the program's own
	{"path_remove_directory", "iii", (*Process).pathRemoveDirectory},        // empty ones that the program made
	{"path_rename", "iiiiii", (*Process).pathRename},                        // within one of the writable folders, else EXDEV
	{"path_symlink", "iiiii", (*Process).pathSymlink},                       // in /scratch, not to an absolute path (EPERM); ENOTSUP in what outlives the run
	{"path_unlink_file", "iii", (*Process).pathUnlinkFile},                  // files that the program made, or left in /checkpoint
	{"poll_oneoff", "iiii", (*Process).pollOneoff},                          // files are ready at once; waiting moves the clocks to the first end of a wait
	{"proc_exit", "i", (*Process).procExit},                                 // the outcome: the exit code, all 32 bits
	{"proc_raise", "i", (*Process).notSupported},                            // ENOTSUP: there are no signals
	{"sched_yield", "", (*Process).schedYield},                              // without effect
	{"random_get", "ii", (*Process).randomGet},                              // ChaCha8 of the seed
	{"sock_accept", "iii", (*Process).notSocket},                            // EBADF, or ENOTSOCK: no descriptor is a socket
	{"sock_recv", "iiiiii", (*Process).notSocket},                           // as sock_accept
	{"sock_send", "iiiii", (*Process).notSocket},                            // as sock_accept
	{"sock_shutdown", "ii", (*Process).notSocket},                           // as sock_accept
}

// Call performs one call of the program: fn indexes Functions, args are its
// parameters (an i32 in the low half), mem the caller's memory or nil. With
// unwind the program has ended and its engine must not return into it.
func (p *Process) Call(fn int, args []uint64, mem Memory) (errno Errno, unwind bool) {
	if mem == nil {
		mem = noMemory{}
	}
	p.mem = mem
	if !p.count() {
		return eIO, true
	}
	errno = functions[fn].call(p, args)
	return errno, p.stop != nil
}

func (p *Process) notSupported([]uint64) Errno { return eNotsup }

// notSocket answers for sockets, of which there are none.
func (p *Process) notSocket(a []uint64) Errno {
	if _, e := p.fd(a[0]); e != ok {
		return e
	}
	return eNotsock
}
