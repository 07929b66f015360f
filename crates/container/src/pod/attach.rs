//! Whoever has joined a container's streams: output is copied to them beside the log, their input goes to the container.
//!
//! A reader that is slow holds the container's output back, as a slow terminal would; one that has stood still for
//! [`PATIENCE`] is left behind.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{event::epoll::EventFlags, io::Errno};

use super::{Poll, Source};
use crate::protocol::{STDERR, STDIN, STDOUT};

/// How long a reader may take nothing at all.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One who has joined.
#[derive(Debug)]
pub struct Attachment {
    pub stdin: Option<OwnedFd>,
    /// Standard output (or the terminal) and standard error.
    outputs: [Option<Sink>; 2],
}

#[derive(Debug)]
struct Sink {
    descriptor: OwnedFd,
    pending: Vec<u8>,
    since: Instant,
}

impl Attachment {
    /// Takes the descriptors that `streams` names. They are watched under the container's serial number and `index`.
    pub fn new(
        poll: &Poll,
        serial: u32,
        index: u16,
        streams: u32,
        descriptors: Vec<OwnedFd>,
    ) -> rustix::io::Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut take = |bit: u32| if streams & bit != 0 { descriptors.next() } else { None };
        let (stdin, out, error) = (take(STDIN), take(STDOUT), take(STDERR));
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
            poll.add(stdin, Source::Attached(serial, index, 0), EventFlags::IN)?;
        }
        let sink = |descriptor: Option<OwnedFd>, stream: u8| -> rustix::io::Result<Option<Sink>> {
            let Some(descriptor) = descriptor else { return Ok(None) };
            rustix::io::ioctl_fionbio(&descriptor, true)?;
            // Only its end is of interest until something is pending.
            poll.add(&descriptor, Source::Attached(serial, index, stream), EventFlags::empty())?;
            Ok(Some(Sink { descriptor, pending: Vec::new(), since: Instant::now() }))
        };
        Ok(Self { stdin, outputs: [sink(out, 1)?, sink(error, 2)?] })
    }

    /// Copies output. What the reader does not take now stays pending.
    pub fn write(&mut self, poll: &Poll, source: (u32, u16), error: bool, bytes: &[u8]) {
        let Some(sink) = &mut self.outputs[usize::from(error)] else { return };
        if !sink.pending.is_empty() {
            sink.pending.extend_from_slice(bytes);
            return;
        }
        match write_some(&sink.descriptor, bytes) {
            Some(written) if written == bytes.len() => {}
            Some(written) => {
                sink.pending.extend_from_slice(&bytes[written..]);
                sink.since = Instant::now();
                let stream = Source::Attached(source.0, source.1, 1 + u8::from(error));
                let _ = poll.modify(&sink.descriptor, stream, EventFlags::OUT);
            }
            None => self.drop_output(poll, error),
        }
    }

    /// Tries to write what is pending.
    pub fn flush(&mut self, poll: &Poll, source: (u32, u16), error: bool) {
        let Some(sink) = &mut self.outputs[usize::from(error)] else { return };
        match write_some(&sink.descriptor, &sink.pending) {
            Some(0) => {}
            Some(written) => {
                sink.pending.drain(..written);
                sink.since = Instant::now();
            }
            None => return self.drop_output(poll, error),
        }
        if sink.pending.is_empty() {
            sink.pending = Vec::new();
            let stream = Source::Attached(source.0, source.1, 1 + u8::from(error));
            let _ = poll.modify(&sink.descriptor, stream, EventFlags::empty());
        }
    }

    /// Whether something is pending on a stream.
    pub fn is_behind(&self, error: bool) -> bool {
        self.outputs[usize::from(error)].as_ref().is_some_and(|sink| !sink.pending.is_empty())
    }

    /// When a reader that is behind will have been so for too long.
    pub fn deadline(&self) -> Option<Instant> {
        let behind = self.outputs.iter().flatten().filter(|sink| !sink.pending.is_empty());
        behind.map(|sink| sink.since + PATIENCE).min()
    }

    /// Leaves readers behind that have stood still for too long.
    pub fn drop_stalled(&mut self, poll: &Poll, now: Instant) {
        for error in [false, true] {
            let stalled = self.outputs[usize::from(error)]
                .as_ref()
                .is_some_and(|sink| !sink.pending.is_empty() && now >= sink.since + PATIENCE);
            if stalled {
                self.drop_output(poll, error);
            }
        }
    }

    /// Ends a stream towards the reader.
    pub fn drop_output(&mut self, poll: &Poll, error: bool) {
        if let Some(sink) = self.outputs[usize::from(error)].take() {
            poll.remove(&sink.descriptor);
        }
    }

    /// Takes no more input.
    pub fn drop_input(&mut self, poll: &Poll) {
        if let Some(stdin) = self.stdin.take() {
            poll.remove(&stdin);
        }
    }

    /// Whether nothing is joined any more.
    pub fn is_over(&self) -> bool {
        self.stdin.is_none() && self.outputs.iter().all(Option::is_none)
    }
}

/// How many bytes were taken; `None` where the reader is gone.
pub fn write_some(descriptor: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(descriptor, &bytes[written..]) {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(_) => return None,
        }
    }
    Some(written)
}
