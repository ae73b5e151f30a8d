"""
The errnos with which each system call of the program may fail: the ERRORS section of its manual
page.

    python3 tests/behaviour/errnos.py ROWS

prints what test_errnos.py wrote to $ME_ONLY_ERRNO_ROWS as a table (Markdown).

From man-pages 6.03 (section 2; for Unix sockets also unix(7)). EAGAIN and EWOULDBLOCK are one
number.
"""
import collections
import errno
import glob
import re
import sys

PAGES = {
    "accept": "EAGAIN EBADF ECONNABORTED EFAULT EINTR EINVAL EMFILE ENFILE ENOBUFS ENOMEM ENOTSOCK "
              "EOPNOTSUPP EPERM EPROTO",
    "access": "EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM EROFS "
              "ETXTBSY",
    "bind": "EACCES EADDRINUSE EADDRNOTAVAIL EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM "
            "ENOTDIR ENOTSOCK EROFS",
    "chdir": "EACCES EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
    "clock_gettime": "EFAULT EINVAL EPERM",
    "clone": "EACCES EAGAIN EBUSY EEXIST EINVAL ENOMEM ENOSPC EOPNOTSUPP EPERM EUSERS",
    "close": "EBADF EINTR EIO ENOSPC EDQUOT",
    "close_range": "EINVAL EMFILE ENOMEM",
    "connect": "EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNREFUSED "
               "EFAULT EINPROGRESS EINTR EISCONN "
               "ENETUNREACH ENOTSOCK EPERM EPROTOTYPE ETIMEDOUT",
    "dup": "EBADF EBUSY EINTR EINVAL EMFILE",
    "epoll_create": "EINVAL EMFILE ENFILE ENOMEM",
    "epoll_ctl": "EBADF EEXIST EINVAL ELOOP ENOENT ENOMEM ENOSPC EPERM",
    "epoll_wait": "EBADF EFAULT EINTR EINVAL",
    "eventfd": "EINVAL EMFILE ENFILE ENODEV ENOMEM",
    "execve": "E2BIG EACCES EAGAIN EFAULT EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE ENAMETOOLONG "
              "ENFILE ENOENT ENOEXEC ENOMEM ENOTDIR "
              "EPERM ETXTBSY",
    "fcntl": "EACCES EAGAIN EBADF EBUSY EDEADLK EFAULT EINTR EINVAL EMFILE ENOLCK ENOTDIR EPERM",
    "flock": "EBADF EINTR EINVAL ENOLCK EWOULDBLOCK",
    "fork": "EAGAIN ENOMEM ENOSYS",
    # The C library's, between two threads. A wake-up cannot fail; one that did would be lost.
    "futex": "EAGAIN EINTR",
    "getcwd": "EACCES EFAULT EINVAL ENAMETOOLONG ENOENT ENOMEM ERANGE",
    "getdents": "EBADF EFAULT EINVAL ENOENT ENOTDIR",
    "getpgid": "ESRCH",
    "getrlimit": "EFAULT EINVAL EPERM ESRCH",
    "getxattr": "E2BIG EACCES EBADF EFAULT ELOOP ENAMETOOLONG ENODATA ENOENT ENOMEM ENOTDIR "
                "EOPNOTSUPP ERANGE",
    "getrusage": "EFAULT EINVAL",
    "getsid": "EPERM ESRCH",
    "getsockname": "EBADF EFAULT EINVAL ENOBUFS ENOTSOCK",
    "getsockopt": "EBADF EFAULT EINVAL ENOPROTOOPT ENOTSOCK",
    "ioctl": "EBADF EFAULT EINVAL ENOTTY",
    "kill": "EINVAL EPERM ESRCH",
    "listen": "EADDRINUSE EBADF ENOTSOCK EOPNOTSUPP",
    "mkdir": "EACCES EDQUOT EEXIST EFAULT EINVAL ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC "
             "ENOTDIR EPERM EROFS",
    "mmap": "EACCES EAGAIN EBADF EEXIST EINVAL ENFILE ENODEV ENOMEM EOVERFLOW EPERM ETXTBSY",
    "mprotect": "EACCES EINVAL ENOMEM",
    "open": "EACCES EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP EMFILE "
            "ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM "
            "ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY EWOULDBLOCK",
    "pidfd_open": "EINVAL EMFILE ENFILE ENODEV ENOMEM ESRCH",
    "pidfd_send_signal": "EBADF EINVAL EPERM ESRCH",
    "pipe": "EFAULT EINVAL EMFILE ENFILE ENOPKG",
    "poll": "EFAULT EINTR EINVAL ENOMEM",
    "prctl": "EACCES EBADF EBUSY EFAULT EINVAL ENODEV ENXIO EOPNOTSUPP EPERM ERANGE",
    "read": "EAGAIN EBADF EFAULT EINTR EINVAL EIO EISDIR",
    "readlink": "EACCES EBADF EFAULT EINVAL EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
    "recv": "EAGAIN EBADF ECONNREFUSED ECONNRESET EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK",
    "rmdir": "EACCES EBUSY EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR ENOTEMPTY EPERM "
             "EROFS",
    "send": "EACCES EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EISCONN "
            "EMSGSIZE ENOBUFS ENOMEM ENOTCONN ENOTSOCK "
            "EOPNOTSUPP EPIPE ETOOMANYREFS",
    "setsid": "EPERM",
    "shutdown": "EBADF EINVAL ENOTCONN ENOTSOCK",
    "sigaction": "EFAULT EINVAL",
    "signalfd": "EBADF EINVAL EMFILE ENFILE ENODEV ENOMEM",
    "sigprocmask": "EFAULT EINVAL",
    "sigwaitinfo": "EAGAIN EINTR EINVAL",
    "socket": "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT "
              "ESOCKTNOSUPPORT",
    "socketpair": "EAFNOSUPPORT EFAULT EMFILE ENFILE EOPNOTSUPP EPROTONOSUPPORT",
    "stat": "EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EOVERFLOW",
    "statx": "EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
    "timerfd_create": "EBADF ECANCELED EFAULT EINVAL EMFILE ENFILE ENODEV ENOMEM EPERM",
    "wait": "EAGAIN ECHILD EINTR EINVAL ESRCH",
    "write": "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM EPIPE",
}

# The manual page of a call that is not called as its page is.
PAGE_OF = {
    "accept4": "accept", "clone3": "clone", "dup2": "dup", "dup3": "dup",
    "epoll_create1": "epoll_create", "epoll_pwait": "epoll_wait",
    "eventfd2": "eventfd", "execveat": "execve", "faccessat": "access", "faccessat2": "access",
    "getdents64": "getdents",
    "mkdirat": "mkdir", "munmap": "mmap", "newfstatat": "stat", "openat": "open", "pipe2": "pipe",
    "ppoll": "poll",
    "prlimit64": "getrlimit", "readlinkat": "readlink", "readv": "read", "recvfrom": "recv",
    "recvmsg": "recv",
    "rt_sigaction": "sigaction", "rt_sigprocmask": "sigprocmask", "rt_sigtimedwait": "sigwaitinfo",
    "sendmsg": "send", "sendto": "send",
    "setsockopt": "getsockopt", "signalfd4": "signalfd", "timerfd_gettime": "timerfd_create",
    "timerfd_settime": "timerfd_create", "unlinkat": "rmdir", "vfork": "fork",
    "wait4": "wait", "waitid": "wait", "writev": "write",
}

# What a container's filter (seccomp) returns for a call that it does not know or does not allow.
FILTERED = ["ENOSYS", "EPERM"]

# Errnos that the program once used for meanings of its own: from the kernel they mean nothing
# special.
WORDS = ["EBUSY", "ETIMEDOUT", "EDEADLK", "EXFULL", "ECANCELED", "EPROTO", "EAGAIN"]
OF_THE_LOCK = {"bind", "listen", "socket", "socketpair", "pipe2", "flock", "open", "statx",
               "poll", "eventfd2"}

# These cannot fail, or no program could continue: they are not part of the table.
NEVER = {"arch_prctl", "set_tid_address", "set_robust_list", "exit", "exit_group", "rt_sigreturn",
         "restart_syscall", "getpid", "gettid",
         "getppid", "geteuid", "getuid", "getpgrp", "sched_yield", "brk", "madvise"}


def errnos_of(call):
    """
    The names of all errnos to try for a call, each number once; a call that has no page here is a
    KeyError.
    """
    # A filter forbids futex(2) always or never. If it failed once, musl would wait forever.
    names = PAGES[PAGE_OF.get(call, call)].split() + (FILTERED if call != "futex" else []) + (
        WORDS if call in OF_THE_LOCK else [])
    return list({getattr(errno, name): name for name in reversed(names)}.values())[::-1]


def mentioned(directory):
    """The errnos that the sources in DIRECTORY mention: the program cannot tell others apart."""
    return {name for path in glob.glob(f"{directory}/**/*.[ch]", recursive=True)
            for name in re.findall(r"\bE[A-Z0-9]+\b", open(path, encoding="utf-8").read())}


def table(rows):
    """Markdown: a row for each path and call, with its errnos after each status."""
    seen = collections.defaultdict(lambda: collections.defaultdict(set))
    numbers = collections.defaultdict(set)
    for row in rows:
        path, call, number, name, status = row.split()
        seen[path, call][status].add(name)
        numbers[path, call].add(number)
    yield "| path | call | times | errnos by status |"
    yield "|---|---|---|---|"
    for (path, call), statuses in sorted(seen.items()):
        said = "; ".join(f"**{status}**: {' '.join(sorted(names))}"
                         for status, names in sorted(statuses.items()))
        yield f"| {path} | {call} | {len(numbers[path, call])} | {said} |"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="ascii") as f:
        print("\n".join(table(f)))
