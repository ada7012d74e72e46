package sandbox

import "golang.org/x/sys/unix"

// auditArch is what a filter of system calls knows the processor by.
const auditArch = unix.AUDIT_ARCH_X86_64

// archCalls is what there is on this processor alone.
var archCalls = []int{
	unix.SYS_ACCESS, unix.SYS_ARCH_PRCTL, unix.SYS_EPOLL_WAIT, unix.SYS_GETRLIMIT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_OPEN,
	unix.SYS_POLL, unix.SYS_READLINK, unix.SYS_RENAMEAT, unix.SYS_STAT,
}
