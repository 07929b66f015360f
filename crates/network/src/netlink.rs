//! Netlink: messages are written into one buffer, sent at once, and answered one by one.
//!
//! A [`Request`] holds any number of messages. rtnetlink carries them out in order, each for itself; nf_tables carries
//! out a batch whole or not at all. Answers are matched to messages by sequence number, so that what a former exchange
//! left behind is never taken for an answer.
//!
//! See [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html) and the kernel's
//! [introduction](https://docs.kernel.org/userspace-api/netlink/intro.html).

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Ask for an acknowledgement.
pub(crate) const ACK: u16 = libc::NLM_F_ACK as u16;
/// Make the object.
pub(crate) const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// Refuse if it is there.
pub(crate) const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// Replace what is there.
pub(crate) const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
/// List all objects.
pub(crate) const DUMP: u16 = libc::NLM_F_DUMP as u16;

const HEADER: usize = 16;
/// How long the kernel may take to answer before the exchange counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer read at once; the kernel makes them no larger than 32 KiB.
const BUFFER: usize = 64 * 1024;
/// Attribute lengths are 16 bits; lists are cut below this.
pub(crate) const NEST_LIMIT: usize = 60_000;

/// Messages to send together.
#[derive(Default)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Request {
    /// Starts a message of type `kind`; `header` is the fixed part that follows the netlink header.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, header: &[u8]) {
        self.finish();
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        self.align();
    }

    /// Adds an attribute to the message or nest that is open.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attribute shorter than 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.align();
    }

    /// Adds a number in the machine's byte order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds a number in network byte order, as netfilter has them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Adds a text, ended by a zero byte.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let length = u16::try_from(5 + value.len()).expect("attribute shorter than 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.align();
    }

    /// Adds an attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        inner(self);
        let length = u16::try_from(self.bytes.len() - start).expect("nest shorter than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.align();
    }

    /// How many bytes were written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many messages there are.
    pub(crate) fn count(&self) -> usize {
        self.starts.len()
    }

    /// The message at `index`, header included.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).copied().unwrap_or(self.bytes.len());
        self.bytes.get(start..end)
    }

    /// Sets flags of the last message.
    pub(crate) fn flag_last(&mut self, flags: u16) {
        if let Some(start) = self.starts.last().copied() {
            let old = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]);
            self.bytes[start + 6..start + 8].copy_from_slice(&(old | flags).to_ne_bytes());
        }
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(&mut self) {
        if let Some(start) = self.starts.last().copied() {
            let length = u32::try_from(self.bytes.len() - start).expect("message shorter than 4 GiB");
            self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn number(&mut self, first: u32) {
        self.finish();
        for (index, start) in self.starts.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32);
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }
}

/// The kernel's no to one message.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The error code.
    pub(crate) error: io::Error,
    /// The kernel's words, where it has some.
    pub(crate) words: Option<String>,
    /// Where in the message, from its header on, the offending attribute is.
    pub(crate) offset: Option<usize>,
}

impl Refusal {
    /// The error with the kernel's words.
    pub(crate) fn into_error(self) -> io::Error {
        match self.words {
            Some(words) => io::Error::new(self.error.kind(), format!("{} ({words})", self.error)),
            None => self.error,
        }
    }

    pub(crate) fn is(&self, code: i32) -> bool {
        self.error.raw_os_error() == Some(code)
    }
}

/// What the kernel said to one message.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The objects that were asked for, without netlink header.
    pub(crate) objects: Vec<Vec<u8>>,
    /// Its no, if it was one.
    pub(crate) refusal: Option<Refusal>,
}

/// A message as it was read.
pub(crate) struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    /// What follows the netlink header.
    body: &'a [u8],
}

/// A netlink socket. It stays in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    send_buffer: usize,
}

impl Socket {
    /// A socket for links, addresses and routes.
    pub(crate) fn route() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        Self::open(None)
    }

    /// A socket for nf_tables and connection tracking.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &rustix::net::netlink::SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let socket = Self { fd, sequence: 1, send_buffer: 0 };
        // Errors then come without a copy of the message and with the offending attribute's place.
        socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        socket.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4 << 20)?;
        Ok(socket)
    }

    #[allow(unsafe_code)]
    fn option(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        // SAFETY: the descriptor is open, and the value is read for exactly its size during the call. rustix has no
        // call for these options.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn send(&mut self, request: &mut Request) -> io::Result<u32> {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(request.count() as u32).max(1);
        request.number(first);
        // The kernel takes a request only if it fits the send buffer whole.
        if request.len() + 4096 > self.send_buffer {
            let wanted = (request.len() + 4096).next_power_of_two().max(256 * 1024);
            self.option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, i32::try_from(wanted).unwrap_or(i32::MAX / 2))?;
            self.send_buffer = wanted;
        }
        rustix::net::send(&self.fd, &request.bytes, SendFlags::empty())?;
        Ok(first)
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Messages<'a>> {
        loop {
            let (length, full) = match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer"));
                }
                other => other?,
            };
            if full > length {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "netlink answer larger than its buffer"));
            }
            return Ok(Messages(&buffer[..length]));
        }
    }

    /// Sends messages that each ask for an [`ACK`], and gives the answers in the same order.
    pub(crate) fn exchange(&mut self, mut request: Request) -> io::Result<Vec<Answer>> {
        let count = request.count();
        let first = self.send(&mut request)?;
        let mut answers: Vec<Answer> = std::iter::repeat_with(Answer::default).take(count).collect();
        let mut left = count;
        let mut buffer = vec![0; BUFFER];
        while left > 0 {
            for message in self.receive(&mut buffer)? {
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(answer) = answers.get_mut(index) else { continue };
                if message.kind == libc::NLMSG_ERROR as u16 {
                    answer.refusal = refusal(&message);
                    left -= 1;
                } else {
                    answer.objects.push(message.body.to_vec());
                }
            }
        }
        Ok(answers)
    }

    /// Sends messages that each ask for an [`ACK`], and fails with the first refusal and its message's number.
    pub(crate) fn all(&mut self, request: Request) -> io::Result<Vec<Answer>> {
        let mut answers = self.exchange(request)?;
        match answers.iter_mut().find_map(|answer| answer.refusal.take()) {
            Some(refusal) => Err(refusal.into_error()),
            None => Ok(answers),
        }
    }

    /// Sends a batch, whose last message but one asks for an [`ACK`]. The error, if there is one, comes with the number
    /// of its message.
    pub(crate) fn batch(&mut self, request: &mut Request) -> io::Result<Result<(), (usize, Refusal)>> {
        let last = request.count().saturating_sub(2);
        let first = self.send(request)?;
        let mut failed: Option<(usize, Refusal)> = None;
        let mut buffer = vec![0; BUFFER];
        loop {
            for message in self.receive(&mut buffer)? {
                let index = message.sequence.wrapping_sub(first) as usize;
                if index >= request.count() || message.kind != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                if let Some(refusal) = refusal(&message) {
                    failed.get_or_insert((index, refusal));
                }
                // An error of the batch's frame, such as lacking rights, is the only answer.
                if index == last || index == 0 || index > last {
                    return Ok(failed.map_or(Ok(()), Err));
                }
            }
        }
    }

    /// Sends one message with [`DUMP`] and gives each object, without netlink header, to `each`. Lists that changed
    /// while they were read are read again, so `start` is called before each reading.
    pub(crate) fn dump<T>(
        &mut self,
        request: impl Fn() -> Request,
        mut each: impl FnMut(&mut T, &[u8]),
    ) -> io::Result<T>
    where
        T: Default,
    {
        let mut buffer = vec![0; BUFFER];
        'again: for _ in 0..10 {
            let mut found = T::default();
            let first = self.send(&mut request())?;
            let mut changed = false;
            loop {
                for message in self.receive(&mut buffer)? {
                    if message.sequence != first {
                        continue;
                    }
                    changed |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                    if message.kind == libc::NLMSG_DONE as u16 {
                        if let Some(code) = message.body.get(..4).map(number).filter(|code| *code != 0) {
                            return Err(io::Error::from_raw_os_error(-(code as i32)));
                        }
                        if changed {
                            continue 'again;
                        }
                        return Ok(found);
                    }
                    if message.kind == libc::NLMSG_ERROR as u16 {
                        match refusal(&message) {
                            Some(refusal) if refusal.is(libc::EINTR) => continue 'again,
                            Some(refusal) => return Err(refusal.into_error()),
                            None => return Ok(found),
                        }
                    }
                    each(&mut found, message.body);
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the list changed whenever it was read"))
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_ne_bytes)
}

/// The refusal in an error message; `None` when it is an acknowledgement.
fn refusal(message: &Message<'_>) -> Option<Refusal> {
    let code = message.body.get(..4).map_or(0, number) as i32;
    if code == 0 {
        return None;
    }
    let (mut words, mut offset) = (None, None);
    if message.flags & libc::NLM_F_ACK_TLVS as u16 != 0 {
        let capped = message.flags & libc::NLM_F_CAPPED as u16 != 0;
        let copied = message.body.get(4..8).map_or(0, number) as usize;
        let skip = 4 + if capped { HEADER } else { copied.next_multiple_of(4) };
        for (kind, value) in attributes(message.body.get(skip..).unwrap_or_default()) {
            match kind {
                1 => words = Some(text(value)),
                2 => offset = Some(value.get(..4).map_or(0, number) as usize),
                _ => {}
            }
        }
    }
    Some(Refusal { error: io::Error::from_raw_os_error(code.wrapping_neg()), words, offset })
}

/// A text attribute without its zero byte.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = number(&header[..4]) as usize;
        let body = self.0.get(HEADER..length)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: number(&header[8..12]),
            body,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in `bytes`, as type without flags and value. Ends at the first that is cut short.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]) & libc::NLA_TYPE_MASK as u16, value))
    })
}

/// The value of the first attribute of type `kind`.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_written() {
        let mut request = Request::default();
        request.message(1, 0, &[9, 9]);
        request.text(3, "ab");
        request.nest(4, |inner| {
            inner.be32(1, 7);
            inner.attribute(2, &[1, 2, 3, 4, 5]);
        });
        request.number(1);
        let message = Messages(&request.bytes).next().unwrap();
        assert_eq!(message.body.len() % 4, 0);
        let body = &message.body[4..];
        assert_eq!(text(attribute(body, 3).unwrap()), "ab");
        let inner = attribute(body, 4).unwrap();
        assert_eq!(attribute(inner, 1).unwrap(), [0, 0, 0, 7]);
        assert_eq!(attribute(inner, 2).unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(attribute(inner, 3), None);
    }

    #[test]
    fn messages_cut_short_end_the_reading() {
        for bytes in [&[][..], &[1; 15], &[255; 40], &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(Messages(bytes).count() <= 1);
        }
        for bytes in [&[][..], &[8, 0, 1, 0], &[3, 0, 1, 0], &[0, 0, 0, 0, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
