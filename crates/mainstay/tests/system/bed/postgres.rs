//! A real PostgreSQL on a free port, to be killed and started again. Debian's package has it.

use super::nodes::free_port;
use std::fs::Permissions;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The account that a superuser runs it as, since it refuses to run as one: `nobody`.
const NOBODY: u32 = 65_534;
/// It starts within this time, also behind one that was killed.
const SOON: Duration = Duration::from_secs(30);

/// A running server. It is killed when this is dropped.
pub struct Postgres {
    directory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Postgres {
    /// Starts one that is empty.
    pub fn start() -> Postgres {
        let directory = tempfile::tempdir().expect("a directory");
        if is_superuser() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("give it away");
        }
        let mut server = Postgres { directory, port: free_port(), child: None };
        server.certify();
        let made = server
            .command("initdb")
            .args(["-U", "mainstay", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .output()
            .expect("run initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.go_on();
        server
    }

    /// Its URL, with a password that it does not ask for.
    pub fn url(&self) -> String {
        format!("postgres://mainstay:secret@127.0.0.1:{}/postgres", self.port)
    }

    /// The file with its certificate, for those who trust it.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.pem")
    }

    fn certify(&self) {
        let names = vec![String::from("127.0.0.1")];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = self.directory.path().join("server.key");
        std::fs::write(self.certificate(), made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("ours");
        if is_superuser() {
            chown(&key, Some(NOBODY), Some(NOBODY)).expect("given away");
        }
    }

    /// Kills it, as a machine that loses its power does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ended");
        }
    }

    /// Starts it again, and waits until it takes connections.
    pub fn go_on(&mut self) {
        let began = Instant::now();
        while self.child.is_none() {
            let mut child = self
                .command("postgres")
                .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"])
                .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "ssl=on"])
                .args(["-c", "dynamic_shared_memory_type=mmap"])
                .args(["-c", "ssl_cert_file=../server.pem", "-c", "ssl_key_file=../server.key"])
                .spawn()
                .expect("run postgres");
            loop {
                assert!(began.elapsed() < SOON, "PostgreSQL does not start");
                if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                    self.child = Some(child);
                    break;
                }
                // Parts of one that was killed may live on for a moment and hold its memory.
                if child.try_wait().expect("a child").is_some() {
                    break;
                }
                // waits for: a server of another kind, which tells nobody.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program));
        command
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .current_dir(self.directory.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if is_superuser() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where a program of PostgreSQL is: on the path, or where Debian puts it.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let places =
        debian.map(|version| version.path().join("bin")).chain(std::env::split_paths(&path));
    let mut found = places.map(|place| place.join(program)).filter(|path| Path::is_file(path));
    found.next().unwrap_or_else(|| panic!("no {program}: install Debian's package postgresql"))
}
