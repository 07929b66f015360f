//! What a process keeps in memory of its start: given back once.
//!
//! A start touches much of a program and allocates much that it frees again. The program's pages stay mapped, although they come from its
//! file and come back from there (or from the page cache) where they are wanted; what is freed at an end of the heap is kept by the allocator.
//! It stands here since the two calls have no safe form: `madvise(2)`, `malloc_trim(3)`.

#![expect(unsafe_code, reason = "system calls")]

use std::{
    ffi::{c_int, c_void},
    io, slice,
};

/// Unmaps the program's pages that nobody has written, and gives freed memory back to the kernel. What goes on running faults its pages in
/// again.
///
/// # Errors
/// The kernel refuses.
pub fn give_back() -> io::Result<()> {
    let mut result = Ok(());
    // SAFETY: the callback has the type that is asked for, and is given a pointer that lives through the call.
    unsafe { libc::dl_iterate_phdr(Some(unmap), (&raw mut result).cast::<c_void>()) };
    // SAFETY: frees only what is free.
    unsafe { libc::malloc_trim(0) };
    result
}

/// Unmaps the pages of the first object, which is the program, and ends the iteration.
///
/// # Safety
/// `info` is a description of a loaded object, `result` a pointer to an [`io::Result`].
unsafe extern "C" fn unmap(info: *mut libc::dl_phdr_info, _: libc::size_t, result: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let (info, result) = unsafe { (&*info, &mut *result.cast::<io::Result<()>>()) };
    // SAFETY: an object's headers live as long as it is loaded.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    // A segment that may be written may have been, and is then not what the file says.
    let constant = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(constant) {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        let from = (info.dlpi_addr + header.p_vaddr) & !(page - 1);
        let to = info.dlpi_addr + header.p_vaddr + header.p_memsz;
        // SAFETY: the pages are the file's own, never written: a later access finds the same bytes.
        if unsafe { libc::madvise(from as *mut c_void, (to - from) as usize, libc::MADV_DONTNEED) } < 0 {
            *result = Err(io::Error::last_os_error());
        }
    }
    1
}

#[cfg(test)]
mod tests {
    //! Memory given back, and used again.

    /// Resident pages of files, in KiB.
    fn of_files() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("there");
        let line = status.lines().find(|line| line.starts_with("RssFile:")).expect("the kernel counts them");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }

    #[test]
    fn pages_of_the_program_go_and_come_back() {
        let before = of_files();
        super::give_back().expect("allowed");
        let after = of_files();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert_eq!(format!("{:?}", std::net::Ipv4Addr::LOCALHOST), "127.0.0.1", "and it still works");
    }
}
