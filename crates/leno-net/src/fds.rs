//! Passing descriptors between processes over Unix sockets (SCM_RIGHTS).
//!
//! What arrives is close-on-exec from birth. More descriptors than asked for are refused, not leaked: the kernel closes
//! what did not fit, and the message is an error, because a listener missing from a set must not go unnoticed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors that one message can carry (SCM_MAX_FD).
pub const FDS_MAX: usize = 253;

/// Sends `bytes` (at least one) and with them `fds`, and says how many bytes went. `WouldBlock` on a non-blocking socket
/// that is full. On a stream socket the descriptors arrive with the first of the bytes.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if bytes.is_empty() || fds.len() > FDS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("send {} descriptors with {} bytes; 0 to {FDS_MAX} and at least 1 go", fds.len(), bytes.len()),
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Receives into `bytes`, and says how many came and which descriptors with them, at most `fds_max`. 0 bytes are the end
/// of a stream socket.
pub fn receive(socket: impl AsFd, bytes: &mut [u8], fds_max: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if fds.len() > fds_max || message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("received {} descriptors or more where at most {fds_max} were expected", fds.len()),
        ));
    }
    Ok((message.bytes, fds))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_and_works() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut kept, passed) = UnixStream::pair().unwrap();
        send(&here, b"x", &[passed.as_fd()]).unwrap();
        drop(passed);

        let mut byte = [0; 4];
        let (length, mut fds) = receive(&there, &mut byte, 1).unwrap();
        UnixStream::from(fds.remove(0)).write_all(b"hello").unwrap();

        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!((length, &byte[..1], text.as_str()), (1, &b"x"[..], "hello"));
    }

    #[test]
    fn more_descriptors_than_expected_are_an_error_and_are_closed() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut kept, passed) = UnixStream::pair().unwrap();
        send(&here, b"x", &[passed.as_fd(), passed.as_fd()]).unwrap();
        drop(passed);

        assert!(receive(&there, &mut [0; 1], 1).is_err());
        assert_eq!(kept.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn descriptors_without_a_byte_are_refused() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(send(&here, b"", &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
