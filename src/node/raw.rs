//! System calls between clone(2) and execve(2), for children that share their parent's memory.

use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::ptr;

use nix::unistd::Pid;

/// Stack of a child before its program: its deepest call is a system call with a small structure.
const STACK: usize = 64 * 1024;

/// dup2(2), for a child.
pub(super) fn dup_to(fd: BorrowedFd, number: RawFd) -> rustix::io::Result<()> {
    // SAFETY: numbers only; the caller decided that `number` is to be replaced.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// close_range(2) from `first` to the end, for a child.
pub(super) fn close_from(first: RawFd, flags: u32) -> rustix::io::Result<()> {
    // SAFETY: numbers only. Without `CLOSE_RANGE_CLOEXEC` this closes files that the parent's values
    // own, but in the child's table, where those values are never used again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if done < 0 { Err(last_errno()) } else { Ok(()) }
}

/// What the last system call failed with.
pub(super) fn last_errno() -> rustix::io::Errno {
    // SAFETY: the location is this thread's own.
    rustix::io::Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// Whether the working directory is below the root: it is not where a link of /proc led to a folder
/// of another mount namespace (getcwd(2)).
pub(super) fn is_inside() -> bool {
    let mut path = [0_u8; 4096];
    // SAFETY: the buffer is alive and its size is given. Not the C library's, which may allocate.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    length > 0 && path[0] == b'/'
}

/// Executes the program that `file` is. Returns only when that failed.
///
/// # Safety
/// The arrays hold pointers to C strings and end with NULL.
pub(super) unsafe fn execute(file: BorrowedFd, argv: &[*const c_char], env: &[*const c_char]) {
    // SAFETY: as this function's own condition; no library function, as musl's fexecve(3) needs /proc.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
}

/// Clones a child that runs `body` on a stack of its own, and waits until it has executed a program
/// or ended with what `body` returned. `flags` of clone(2) are added: `CLONE_VM` lets it run in this
/// process's memory. With `pidfd` `CLONE_PIDFD` is added, and the descriptor is written there.
///
/// All signals are blocked in the child: a handler of the parent's must not run there.
///
/// # Safety
/// `body` must keep to system calls and to variables that outlive the call; it must not allocate,
/// take locks or panic.
pub(super) unsafe fn vfork<F: FnMut() -> c_int>(
    flags: c_int,
    pidfd: Option<&mut RawFd>,
    body: &mut F,
) -> io::Result<Pid> {
    extern "C" fn enter<F: FnMut() -> c_int>(body: *mut c_void) -> c_int {
        // SAFETY: it is the `body` below, which the parent does not touch meanwhile.
        unsafe { (*body.cast::<F>())() }
    }
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    let mut flags = flags | libc::CLONE_VFORK;
    let pidfd = pidfd.map_or(ptr::null_mut(), |fd| {
        flags |= libc::CLONE_PIDFD;
        ptr::from_mut(fd)
    });
    // SAFETY: the stack is 16-byte aligned, large enough and unused by anyone else, and the parent
    // waits until the child has left it (CLONE_VFORK); the masks are plain values.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity()).cast::<c_void>();
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::clone(enter::<F>, top, flags, ptr::from_mut(body).cast(), pidfd);
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        if pid < 0 {
            Err(error)
        } else {
            Ok(Pid::from_raw(pid))
        }
    }
}
