//! From nslab's own program to the one that was asked for, with nothing of nslab's in between.
//!
//! A program of an image may be called `/proc/self/exe`, be a script that begins with
//! `#!/proc/self/exe`, or name that as its dynamic loader. Were it executed from a process of nslab,
//! the kernel would follow the link to the host's nslab binary and run that, with the image's
//! libraries, and a library could open it for writing (CVE-2019-5736). So a child of nslab executes a
//! program of a few instructions first, which knows no other work than to execute another: it lives in
//! a sealed file in memory, and is what such a link leads to.
//!
//! It is given the places where the program may be, an empty argument, and the program's
//! arguments. What fails is one number in the pipe [`REPORT`], which closes when the program starts.

use std::arch::global_asm;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Number of the descriptor that errors are reported through.
pub(super) const REPORT: RawFd = 3;
/// Number of the descriptor that it is executed by.
pub(super) const SPRINGBOARD: RawFd = 4;

// Both follow the same steps: mark the pipe to be closed, and close the springboard's own file; find the empty argument; execute each of
// the places; a file without format is a script for /bin/sh, which the empty argument and the one
// behind it make room for; a place that is not there (ENOENT, ENOTDIR) is left out; EACCES is
// remembered, as execvp(3) does; anything else is final.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.nslab_springboard,\"a\",@progbits",
    ".globl nslab_springboard_start, nslab_springboard_end",
    "nslab_springboard_start:",
    "mov r12, [rsp]",             // argc
    "lea r13, [rsp + 8]",         // the place to try
    "lea r14, [r13 + r12*8 + 8]", // the environment
    "mov edi, {report}",
    "mov esi, {set_flags}",
    "mov edx, {on_exec}",
    "mov eax, {fcntl}",
    "syscall",
    "mov edi, {board}",
    "mov eax, {close}",
    "syscall",
    "mov r15, r13", // the empty argument
    "2: mov rax, [r15]",
    "test rax, rax",
    "jz 9f",
    "cmp byte ptr [rax], 0",
    "je 3f",
    "add r15, 8",
    "jmp 2b",
    "3: mov ebp, {enoent}",
    "4: cmp r13, r15",
    "je 8f",
    "mov rdi, [r13]",
    "lea rsi, [r15 + 8]",
    "mov rdx, r14",
    "mov eax, {execve}",
    "syscall",
    "neg eax",
    "cmp eax, {enoexec}",
    "je 7f",
    "cmp eax, {enoent}",
    "je 6f",
    "cmp eax, {enotdir}",
    "je 6f",
    "cmp eax, {eacces}",
    "je 5f",
    "mov ebp, eax",
    "jmp 8f",
    "5: mov ebp, eax",
    "6: add r13, 8",
    "jmp 4b",
    "7: mov ebp, eax",
    "lea rdi, [rip + 20f]",
    "mov [r15], rdi",
    "mov rax, [r13]",
    "mov [r15 + 8], rax",
    "mov rsi, r15",
    "mov rdx, r14",
    "mov eax, {execve}",
    "syscall",
    "8: sub rsp, 16",
    "mov [rsp], ebp",
    "mov edi, {report}",
    "mov rsi, rsp",
    "mov edx, 4",
    "mov eax, {write}",
    "syscall",
    "9: mov edi, 127",
    "mov eax, {exit}",
    "syscall",
    "20: .asciz \"/bin/sh\"",
    "nslab_springboard_end:",
    ".popsection",
    report = const REPORT,
    set_flags = const libc::F_SETFD,
    on_exec = const libc::FD_CLOEXEC,
    board = const SPRINGBOARD,
    close = const libc::SYS_close,
    enoent = const libc::ENOENT,
    enoexec = const libc::ENOEXEC,
    enotdir = const libc::ENOTDIR,
    eacces = const libc::EACCES,
    fcntl = const libc::SYS_fcntl,
    execve = const libc::SYS_execve,
    write = const libc::SYS_write,
    exit = const libc::SYS_exit_group,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.nslab_springboard,\"a\",@progbits",
    ".globl nslab_springboard_start, nslab_springboard_end",
    ".balign 4",
    "nslab_springboard_start:",
    "ldr x20, [sp]",
    "add x21, sp, #8",
    "add x22, x21, x20, lsl #3",
    "add x22, x22, #8",
    "mov x0, #{report}",
    "mov x1, #{set_flags}",
    "mov x2, #{on_exec}",
    "mov x8, #{fcntl}",
    "svc #0",
    "mov x0, #{board}",
    "mov x8, #{close}",
    "svc #0",
    "mov x23, x21",
    "2: ldr x0, [x23]",
    "cbz x0, 9f",
    "ldrb w1, [x0]",
    "cbz w1, 3f",
    "add x23, x23, #8",
    "b 2b",
    "3: mov w24, #{enoent}",
    "4: cmp x21, x23",
    "b.eq 8f",
    "ldr x0, [x21]",
    "add x1, x23, #8",
    "mov x2, x22",
    "mov x8, #{execve}",
    "svc #0",
    "neg w0, w0",
    "cmp w0, #{enoexec}",
    "b.eq 7f",
    "cmp w0, #{enoent}",
    "b.eq 6f",
    "cmp w0, #{enotdir}",
    "b.eq 6f",
    "cmp w0, #{eacces}",
    "b.eq 5f",
    "mov w24, w0",
    "b 8f",
    "5: mov w24, w0",
    "6: add x21, x21, #8",
    "b 4b",
    "7: mov w24, w0",
    "adr x0, 20f",
    "str x0, [x23]",
    "ldr x1, [x21]",
    "str x1, [x23, #8]",
    "mov x1, x23",
    "mov x2, x22",
    "mov x8, #{execve}",
    "svc #0",
    "8: sub sp, sp, #16",
    "str w24, [sp]",
    "mov x0, #{report}",
    "mov x1, sp",
    "mov x2, #4",
    "mov x8, #{write}",
    "svc #0",
    "9: mov x0, #127",
    "mov x8, #{exit}",
    "svc #0",
    "20: .asciz \"/bin/sh\"",
    "nslab_springboard_end:",
    ".popsection",
    report = const REPORT,
    set_flags = const libc::F_SETFD,
    on_exec = const libc::FD_CLOEXEC,
    board = const SPRINGBOARD,
    close = const libc::SYS_close,
    enoent = const libc::ENOENT,
    enoexec = const libc::ENOEXEC,
    enotdir = const libc::ENOTDIR,
    eacces = const libc::EACCES,
    fcntl = const libc::SYS_fcntl,
    execve = const libc::SYS_execve,
    write = const libc::SYS_write,
    exit = const libc::SYS_exit_group,
);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the springboard's instructions are written for x86-64 and arm64 only");

unsafe extern "C" {
    static nslab_springboard_start: u8;
    static nslab_springboard_end: u8;
}

/// Where its only segment is loaded.
const BASE: u64 = 0x40_0000;
/// Sizes of the ELF header and of one program header (elf(5)).
const HEADER: usize = 64;
const SEGMENT: usize = 56;

/// The program in a sealed file. Its number is above [`SPRINGBOARD`].
#[derive(Debug)]
pub(super) struct Springboard(OwnedFd);

impl Springboard {
    pub(super) fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let create = |flags| rustix::fs::memfd_create(c"nslab-springboard", flags);
        let file = match create(flags | MemfdFlags::EXEC) {
            // Before Linux 6.3, where all such files may be executed.
            Err(Errno::INVAL) => create(flags)?,
            other => other?,
        };
        let file = rustix::io::fcntl_dupfd_cloexec(file, SPRINGBOARD + 1)?;
        let mut file = std::fs::File::from(file);
        file.write_all(&elf(code()))?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self(file.into()))
    }
}

impl AsFd for Springboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn code() -> &'static [u8] {
    // SAFETY: both are labels of the same section above, in this order; what is between them is
    // never written.
    unsafe {
        let (start, end) = (
            &raw const nslab_springboard_start,
            &raw const nslab_springboard_end,
        );
        std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

/// A static executable of nothing but `code`.
fn elf(code: &[u8]) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "x86_64") {
        62
    } else {
        183
    };
    let size = (HEADER + SEGMENT + code.len()) as u64;
    let mut file = Vec::with_capacity(size as usize);
    // 64 bits, little-endian, version 1, System V.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let half = |file: &mut Vec<u8>, value: u16| file.extend_from_slice(&value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend_from_slice(&value.to_le_bytes());
    half(&mut file, 2); // ET_EXEC
    half(&mut file, machine);
    word(&mut file, 1);
    long(&mut file, BASE + (HEADER + SEGMENT) as u64); // entry
    long(&mut file, HEADER as u64); // program headers
    long(&mut file, 0); // no sections
    word(&mut file, 0);
    half(&mut file, HEADER as u16);
    half(&mut file, SEGMENT as u16);
    for value in [1, 0, 0, 0] {
        half(&mut file, value);
    }
    word(&mut file, 1); // PT_LOAD
    word(&mut file, 5); // readable, executable
    long(&mut file, 0); // all of the file
    long(&mut file, BASE);
    long(&mut file, BASE);
    long(&mut file, size);
    long(&mut file, size);
    long(&mut file, 0x1_0000); // the largest page there is
    debug_assert_eq!(file.len(), HEADER + SEGMENT);
    file.extend_from_slice(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_whole_and_nobody_can_write_to_it() {
        let board = Springboard::new().unwrap();
        let file = std::fs::File::from(board.0.try_clone().unwrap());
        let length = file.metadata().unwrap().len() as usize;
        assert_eq!(length, HEADER + SEGMENT + code().len());
        assert!(code().len() < 400 && code().ends_with(b"/bin/sh\0"));
        let denied = (&file).write_all(b"x").unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EPERM));
        assert!(file.set_len(0).is_err());
    }
}
