//! A simulated machine, as far as its network is concerned: interfaces, services and a resolver for
//! one test, so that nothing depends on where the tests run.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

/// Its own address on the outer network.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Its default gateway.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// An address outside.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// Runs a test on such a machine, on a separate thread, so that everything it starts or listens on
/// is there, too. Requires root.
pub(crate) fn run(test: fn()) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        for words in [
            "link set lo up".to_owned(),
            "link add eth0 type veth peer name eth1".to_owned(),
            "link set eth1 up".to_owned(),
            format!("addr add {ADDRESS}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {GATEWAY}"),
            format!("addr add {OUTSIDE}/32 dev lo"),
        ] {
            let status = Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "ip {words}");
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Replaces a file, on this machine only, by another one's content, or, if that is a device, by the
/// device.
pub(crate) fn replace(path: &str, by: &Path) {
    let none: Option<&str> = None;
    mount(Some(by), path, none, MsFlags::MS_BIND, none).unwrap();
}

/// A service that sends a word to every client. Returns its port.
pub(crate) fn service(address: Ipv4Addr, word: &'static str) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // The client may have disconnected.
            let _ = (&client).write_all(word.as_bytes());
        }
    });
    port
}

/// A resolver that answers [`OUTSIDE`] for every name.
pub(crate) fn resolver(address: Ipv4Addr) {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            // The question ends with its type and class, after a name that ends in an empty label.
            let name = query[12..length].iter().position(|byte| *byte == 0).unwrap();
            let question = &query[12..12 + name + 5];
            let is_v4 = question[name + 1..name + 3] == [0, 1];
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
            answer.extend(question);
            if is_v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(OUTSIDE.octets());
            }
            let _ = socket.send_to(&answer, client);
        }
    });
}
