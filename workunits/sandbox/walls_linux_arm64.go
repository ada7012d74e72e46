package sandbox

import "golang.org/x/sys/unix"

// auditArch is what a filter of system calls knows the processor by.
const auditArch = unix.AUDIT_ARCH_AARCH64

// archCalls is what has another name on this processor.
var archCalls = []int{unix.SYS_FSTATAT, unix.SYS_GETRLIMIT, unix.SYS_RENAMEAT}
