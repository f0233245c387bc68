//! What the kernel still holds of what was written to a connection: the only way to tell a peer that reads slowly from one
//! that reads what is there, since a socket takes megabytes and says nothing while they drain.

// One ioctl that writes one integer.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// Bytes that were written to the socket and that its peer has not acknowledged; `None` where the kernel does not say.
pub fn unacknowledged(socket: &impl AsFd) -> Option<u64> {
    const TIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: TIOCOUTQ (tty_ioctl(4), tcp(7)) writes one `int` to its argument, which is what the getter has room for.
    let queued: libc::c_int = unsafe { ioctl(socket, Getter::<TIOCOUTQ, libc::c_int>::new()) }.ok()?;
    u64::try_from(queued).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_a_peer_does_not_read_is_not_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(&writer), Some(0));
        writer.set_nonblocking(true).unwrap();
        let piece = vec![0; 1 << 20];
        let mut written = 0;
        while let Ok(count) = writer.write(&piece) {
            written += count as u64;
        }
        let queued = unacknowledged(&writer).unwrap();
        assert!(queued > 0 && queued < written, "{queued} of {written}");
        let mut read = 0;
        while read < written {
            read += reader.read(&mut vec![0; 1 << 20]).unwrap() as u64;
        }
        while unacknowledged(&writer) != Some(0) {
            std::thread::yield_now();
        }
    }
}
