//! How much of what was sent through a socket its other end has not read yet.
//!
//! <https://man7.org/linux/man-pages/man7/unix.7.html> (`SIOCINQ`), `TIOCOUTQ` in <https://man7.org/linux/man-pages/man2/TIOCSWINSZ.2const.html>

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// Bytes in the kernel that were sent and not read, its own overhead included: 0 means that all was read.
///
/// Fails where the descriptor is no socket.
#[allow(unsafe_code)]
pub fn unread(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes one integer to where the pointer leads.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
    };

    use super::unread;

    #[test]
    fn what_the_other_end_has_not_read_is_counted() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(unread(&ours).unwrap(), 0);
        ours.write_all(b"four").unwrap();
        assert!(unread(&ours).unwrap() >= 4);
        theirs.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread(&ours).unwrap(), 0);
        assert!(unread(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
