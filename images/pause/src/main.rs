//! The pause program: holds the namespaces of a pod open and collects orphans.
//!
//! It blocks the three signals it cares about and waits for them synchronously, so there is no signal handler:
//! SIGTERM and SIGINT end it, SIGCHLD makes it reap every child that has exited (it is process 1 of a pod
//! with a shared process namespace).
//!
//! `cargo xtask image` builds it with `panic = "abort"`, without the standard library and without a C library;
//! in every other build it is an ordinary program with the same body, so that it is checked like the rest.
#![cfg_attr(panic = "abort", no_std)]
#![cfg_attr(panic = "abort", no_main)]

use core::arch::asm;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    #[cfg(panic = "abort")]
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const WAIT4: usize = 260;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    #[cfg(panic = "abort")]
    pub const EXIT_GROUP: usize = 94;
}

/// Makes a system call of up to four arguments and returns the kernel's answer (negative: error number).
#[cfg(target_arch = "x86_64")]
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the callers pass only pointers to live locals of the size the call writes, or null.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// Makes a system call of up to four arguments and returns the kernel's answer (negative: error number).
#[cfg(target_arch = "aarch64")]
fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer;
    // SAFETY: the callers pass only pointers to live locals of the size the call writes, or null.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => answer, in("x1") b, in("x2") c, in("x3") d, options(nostack));
    }
    answer
}

/// Waits until it is told to end.
fn pause() {
    let mask: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let set = &raw const mask as usize;
    call(number::RT_SIGPROCMASK, SIG_BLOCK, set, 0, size_of::<u64>());
    loop {
        match call(number::RT_SIGTIMEDWAIT, set, 0, 0, size_of::<u64>()) as i32 {
            SIGINT | SIGTERM => return,
            // One signal may stand for many children.
            SIGCHLD => while call(number::WAIT4, usize::MAX, 0, WNOHANG, 0) > 0 {},
            _ => {}
        }
    }
}

/// Where the kernel starts the program.
#[cfg(panic = "abort")]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    pause();
    loop {
        call(number::EXIT_GROUP, 0, 0, 0, 0);
    }
}

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        call(number::EXIT_GROUP, 1, 0, 0, 0);
    }
}

#[cfg(not(panic = "abort"))]
fn main() {
    pause();
}
