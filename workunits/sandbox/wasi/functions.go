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

var functions = []Function{
	{"args_get", "ii", (*Process).argsGet},
	{"args_sizes_get", "ii", (*Process).argsSizesGet},
	{"environ_get", "ii", (*Process).environGet},
	{"environ_sizes_get", "ii", (*Process).environSizesGet},
	{"clock_res_get", "ii", (*Process).clockResGet},
	{"clock_time_get", "iIi", (*Process).clockTimeGet},
	{"fd_advise", "iIIi", (*Process).fdAdvise},
	{"fd_allocate", "iII", (*Process).fdAllocate},
	{"fd_close", "i", (*Process).fdClose},
	{"fd_datasync", "i", (*Process).fdSync},
	{"fd_fdstat_get", "ii", (*Process).fdFdstatGet},
	{"fd_fdstat_set_flags", "ii", (*Process).fdFdstatSetFlags},
	{"fd_fdstat_set_rights", "iII", (*Process).fdFdstatSetRights},
	{"fd_filestat_get", "ii", (*Process).fdFilestatGet},
	{"fd_filestat_set_size", "iI", (*Process).fdFilestatSetSize},
	{"fd_filestat_set_times", "iIIi", (*Process).fdFilestatSetTimes},
	{"fd_pread", "iiiIi", (*Process).fdPread},
	{"fd_prestat_get", "ii", (*Process).fdPrestatGet},
	{"fd_prestat_dir_name", "iii", (*Process).fdPrestatDirName},
	{"fd_pwrite", "iiiIi", (*Process).fdPwrite},
	{"fd_read", "iiii", (*Process).fdRead},
	{"fd_readdir", "iiiIi", (*Process).fdReaddir},
	{"fd_renumber", "ii", (*Process).fdRenumber},
	{"fd_seek", "iIii", (*Process).fdSeek},
	{"fd_sync", "i", (*Process).fdSync},
	{"fd_tell", "ii", (*Process).fdTell},
	{"fd_write", "iiii", (*Process).fdWrite},
	{"path_create_directory", "iii", (*Process).pathCreateDirectory},
	{"path_filestat_get", "iiiii", (*Process).pathFilestatGet},
	{"path_filestat_set_times", "iiiiIIi", (*Process).pathFilestatSetTimes},
	{"path_link", "iiiiiii", (*Process).notSupported},
	{"path_open", "iiiiiIIii", (*Process).pathOpen},
	{"path_readlink", "iiiiii", (*Process).pathReadlink},
	{"path_remove_directory", "iii", (*Process).pathRemoveDirectory},
	{"path_rename", "iiiiii", (*Process).pathRename},
	{"path_symlink", "iiiii", (*Process).notSupported},
	{"path_unlink_file", "iii", (*Process).pathUnlinkFile},
	{"poll_oneoff", "iiii", (*Process).pollOneoff},
	{"proc_exit", "i", (*Process).procExit},
	{"proc_raise", "i", (*Process).notSupported},
	{"sched_yield", "", (*Process).schedYield},
	{"random_get", "ii", (*Process).randomGet},
	{"sock_accept", "iii", (*Process).notSupported},
	{"sock_recv", "iiiiii", (*Process).notSupported},
	{"sock_send", "iiiii", (*Process).notSupported},
	{"sock_shutdown", "ii", (*Process).notSupported},
}

// Call performs one call of the program: fn indexes Functions, args are its
// parameters (an i32 in the low half), mem the caller's memory or nil. With
// unwind the program has ended and its engine must not return into it.
func (p *Process) Call(fn int, args []uint64, mem Memory) (errno Errno, unwind bool) {
	if mem == nil {
		mem = noMemory{}
	}
	p.mem = mem
	errno = functions[fn].call(p, args)
	return errno, p.stop != nil
}

func (p *Process) notSupported([]uint64) Errno { return eNotsup }
