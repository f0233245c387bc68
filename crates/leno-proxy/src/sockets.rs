//! The listening sockets of a proxy: those that are open, to be handed over to a successor, and those that the process
//! before handed over and no listener has asked for yet.
//!
//! Of what is open only duplicates are kept here, so that closing a listener is up to its workers alone, and a socket that
//! was handed over is never bound anew: what waits in its queue is accepted by whoever has it.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::listener::Key;

/// Both, by listener. A listener has as many sockets as the workers of the process that bound it.
#[derive(Default)]
pub(crate) struct Sockets {
    open: BTreeMap<Key, Vec<OwnedFd>>,
    given: BTreeMap<Key, Vec<OwnedFd>>,
}

// === impl Sockets ===

impl Sockets {
    /// Has these for whoever asks for them.
    pub(crate) fn give(&mut self, sockets: impl IntoIterator<Item = (Key, OwnedFd)>) {
        for (key, socket) in sockets {
            self.given.entry(key).or_default().push(socket);
        }
    }

    /// Where the sockets listen that were handed over for a listener.
    pub(crate) fn given_address(&self, key: &Key) -> Option<SocketAddr> {
        let socket = self.given.get(key)?.first()?.try_clone().ok()?;
        TcpListener::from(socket).local_addr().ok()
    }

    /// The sockets that were handed over for a listener, if they listen at `address`, of which port 0 is any.
    pub(crate) fn take_tcp(&mut self, key: &Key, address: SocketAddr) -> Option<Vec<TcpListener>> {
        let given = self.given.remove(key)?;
        let sockets: Vec<TcpListener> = given.into_iter().map(TcpListener::from).collect();
        let fits = |socket: &TcpListener| {
            let bound = socket.local_addr().ok();
            bound.is_some_and(|bound| bound == address || address.port() == 0 && bound.ip() == address.ip())
        };
        sockets.iter().all(fits).then_some(sockets)
    }

    /// As [`Sockets::take_tcp`], for datagrams.
    pub(crate) fn take_udp(&mut self, key: &Key, address: SocketAddr) -> Option<Vec<UdpSocket>> {
        let sockets: Vec<UdpSocket> = self.given.remove(key)?.into_iter().map(UdpSocket::from).collect();
        sockets.iter().all(|socket| socket.local_addr().is_ok_and(|bound| bound == address)).then_some(sockets)
    }

    /// The socket that was handed over for a listener, if it listens at `path`.
    pub(crate) fn take_unix(&mut self, key: &Key, path: &Path) -> Option<UnixListener> {
        let socket = UnixListener::from(self.given.remove(key)?.pop()?);
        let fits = socket.local_addr().is_ok_and(|address| address.as_pathname() == Some(path));
        fits.then_some(socket)
    }

    /// Closes what was handed over and nobody has asked for.
    pub(crate) fn refuse_rest(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.given).into_keys().collect()
    }

    /// Keeps duplicates of a listener's sockets.
    pub(crate) fn keep<S: AsFd>(&mut self, key: &Key, sockets: &[S]) -> io::Result<()> {
        let duplicates = sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect::<io::Result<_>>()?;
        self.open.insert(key.clone(), duplicates);
        Ok(())
    }

    /// Forgets a listener that is closed.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.open.remove(key);
    }

    /// Forgets all of them, because nothing more shall be accepted.
    pub(crate) fn forget_all(&mut self) {
        self.open.clear();
    }

    /// Duplicates of everything that is open.
    pub(crate) fn to_hand_over(&self) -> io::Result<Vec<(Key, OwnedFd)>> {
        let all = self.open.iter().flat_map(|(key, sockets)| sockets.iter().map(move |socket| (key, socket)));
        all.map(|(key, socket)| Ok((key.clone(), socket.try_clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn handed(key: &Key, workers: usize) -> (Sockets, SocketAddr) {
        let (mut before, mut after) = (Sockets::default(), Sockets::default());
        let bound = leno_net::listen::bind_group(ANY, workers).unwrap();
        before.keep(key, &bound).unwrap();
        after.give(before.to_hand_over().unwrap());
        (after, bound[0].local_addr().unwrap())
    }

    #[test]
    fn every_socket_of_a_listener_is_handed_over_and_asked_for_by_its_address() {
        let (mut sockets, address) = handed(&Key::Outbound, 3);
        assert_eq!(sockets.given_address(&Key::Outbound), Some(address));
        assert!(sockets.take_tcp(&Key::Inbound(80), address).is_none());
        assert_eq!(sockets.take_tcp(&Key::Outbound, ANY).unwrap().len(), 3);
        assert!(sockets.refuse_rest().is_empty());
    }

    #[test]
    fn sockets_at_another_address_than_is_asked_for_are_not_taken() {
        let (mut sockets, address) = handed(&Key::Outbound, 1);
        let other = SocketAddr::new(address.ip(), address.port() ^ 1);
        assert!(sockets.take_tcp(&Key::Outbound, other).is_none());
    }
}
