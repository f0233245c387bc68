//! What a service manager hears: that a role is ready, and which process it is (sd_notify(3)).
//!
//! After a hand-over the process that the manager started ends and another one serves. A manager that was not told would
//! take that for the end of the service, and end the rest. systemd: `Type=notify`, `NotifyAccess=all`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the manager's socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells the manager that this process is the service and is ready. Nothing where there is none.
pub fn tell_ready() {
    let Some(socket) = std::env::var_os(VARIABLE).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = tell(&socket, std::process::id()) {
        tracing::warn!(%error, socket = %socket.display(), "the service manager does not know that this process is ready");
    }
}

fn tell(socket: &OsStr, process: u32) -> io::Result<()> {
    let to = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(format!("MAINPID={process}\nREADY=1\n").as_bytes(), &to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(at: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = at.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_which_process_is_ready_wherever_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        tell(path.as_os_str(), 7).unwrap();
        assert_eq!(heard(&at_path), "MAINPID=7\nREADY=1\n");
        let name = format!("leno-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let at_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        tell(OsStr::new(&format!("@{name}")), 8).unwrap();
        assert_eq!(heard(&at_name), "MAINPID=8\nREADY=1\n");
    }
}
