//! Ports on loopback for processes that must know each other's before they start. What the system
//! gives for port 0 is nobody's once it is let go, and may be somebody else's before the process
//! that it was meant for binds it. These come from below what systems give by themselves, in
//! blocks that a locked file keeps for one process as long as it lives.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Above the well-known services, below the 32,768 from which Linux gives ports by itself (other
/// systems begin higher).
const FIRST: u16 = 16_000;
const BLOCK: u16 = 64;
const BLOCKS: u16 = 250;

/// Ports that are ours while the file is locked.
struct Block {
    next: u16,
    end: u16,
    _lock: File,
}

static BLOCKS_HELD: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// So many addresses on loopback, free for TCP and UDP. No process that asks here gets them as long
/// as this one lives, nor does this one again.
///
/// # Errors
/// If none is left.
pub fn take(count: usize) -> Result<Vec<SocketAddr>, String> {
    (0..count).map(|_| take_one()).collect()
}

/// See `take`.
///
/// # Errors
/// If none is left.
pub fn take_one() -> Result<SocketAddr, String> {
    let mut held = BLOCKS_HELD.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(block) = held.last_mut().filter(|block| block.next < block.end) {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, block.next));
            block.next += 1;
            // Somebody who does not ask here may have it.
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return Ok(address);
            }
        } else {
            held.push(lock(&std::env::temp_dir().join("mainstay-ports"))?);
        }
    }
}

/// A block that no other process has.
fn lock(directory: &Path) -> Result<Block, String> {
    let told = |error| format!("no ports can be kept in {}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(told)?;
    // Neighbours in time begin elsewhere: a port that was let go just now has late packets.
    let first = (std::process::id() % u32::from(BLOCKS)) as u16;
    for at in (first..BLOCKS).chain(0..first) {
        let start = FIRST + at * BLOCK;
        let path = directory.join(start.to_string());
        let file = File::options().create(true).truncate(false).write(true).open(path);
        // Another user's file can only be that user's block.
        let Ok(file) = file else { continue };
        if file.try_lock().is_ok() {
            return Ok(Block { next: start, end: start + BLOCK, _lock: file });
        }
    }
    Err(format!("all ports of {} are taken; what runs here that needs them?", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice_and_each_can_be_bound() {
        let taken = take(150).expect("ports");
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len());
        for address in &taken {
            TcpListener::bind(address).expect("free for TCP");
            UdpSocket::bind(address).expect("free for UDP");
        }
    }

    #[test]
    fn a_block_is_one_process_own_until_it_lets_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let one = lock(directory.path()).expect("a block");
        let other = lock(directory.path()).expect("another");
        assert_ne!(one.next, other.next);
        let was = one.next;
        drop(one);
        assert_eq!(lock(directory.path()).expect("the first again").next, was);
    }

    #[test]
    fn somebody_elses_port_is_passed_over() {
        let [first] = take(1).expect("a port")[..] else { panic!("one") };
        let mut next = first;
        next.set_port(first.port() + 1);
        // Where the block ends, or another test took it, there is nothing to see.
        if let Ok(_theirs) = TcpListener::bind(next) {
            assert!(take(BLOCK.into()).expect("ports").iter().all(|taken| *taken != next));
        }
    }
}
