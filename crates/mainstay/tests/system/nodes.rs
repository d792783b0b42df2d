//! The real program as two nodes: made by two commands, joined, parted and joined again.

use crate::bed::nodes::free_port;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nobody waits longer than this for what must come.
const SOON: Duration = Duration::from_secs(30);

/// A running program, which ends with the test.
struct Running {
    child: Child,
    /// Where its operator's door is.
    admin: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mainstay(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().current_dir(directory).args(arguments).stdin(Stdio::null());
    command
}

/// Makes a node; its own lines, and those that all nodes have.
fn init(directory: &Path, name: &str, port: u16, more: &[&str]) -> (String, String) {
    let address = format!("127.0.0.1:{port}");
    let arguments = [&["node", "init", "--json", "--name", name, "--address", &address], more];
    let output = mainstay(directory, &arguments.concat()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |key: &str| told[key].as_str().expect(key).to_owned();
    (text("own_lines"), text("shared_lines"))
}

/// Starts a node with the file `NAME.toml`.
fn start(directory: &Path, name: &str) -> Running {
    let file = format!("{name}.toml");
    let mut command = mainstay(directory, &["serve", "--config", &file]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
    let stderr = child.stderr.take().expect("piped");
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let mut said = String::new();
    let found = lines.by_ref().find_map(|line| {
        said.push_str(&format!("{line}\n"));
        let rest = line.strip_prefix("listening ")?;
        assert!(rest.contains(" link=https://127.0.0.1:"), "{rest}");
        let admin = rest.split(' ').find_map(|word| word.strip_prefix("admin=http://"))?;
        Some(admin.to_owned())
    });
    let admin = found.unwrap_or_else(|| panic!("no line for machines: {said}"));
    std::thread::spawn(move || lines.for_each(drop));
    Running { child, admin }
}

fn get(admin: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("it listens");
    let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    let (_, body) = reply.split_once("\r\n\r\n").expect("a body");
    body.to_owned()
}

/// Returns when `node` says that its only peer is up, or not.
fn wait_for(node: &Running, is_up: bool) {
    let began = Instant::now();
    loop {
        let body = get(&node.admin, "/-/nodes");
        let told: serde_json::Value = serde_json::from_str(&body).expect(&body);
        if told["nodes"][0]["is_up"] == is_up {
            return;
        }
        assert!(began.elapsed() < SOON, "{body}");
        std::thread::yield_now();
    }
}

#[test]
fn two_nodes_made_by_two_commands_join_part_and_join_again() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    let ports = [free_port(), free_port()];
    let (own_a, shared_a) = init(root, "a", ports[0], &[]);
    let (own_b, shared_b) = init(root, "b", ports[1], &["--ca", "a"]);
    for (name, own, port) in [("a", own_a, ports[0]), ("b", own_b, ports[1])] {
        let listen = format!(
            "[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             link = \"127.0.0.1:{port}\"\n"
        );
        let text = format!("{listen}{own}{shared_a}{shared_b}");
        std::fs::write(root.join(format!("{name}.toml")), text).expect("written");
    }
    let a = start(root, "a");
    wait_for(&a, false);
    let b = start(root, "b");
    wait_for(&a, true);
    wait_for(&b, true);
    // The machines speak over it: each gateway tells the others how it sees things.
    let began = Instant::now();
    loop {
        let metrics = get(&b.admin, "/metrics");
        assert!(metrics.contains("mainstay_link_up{peer=\"a\"} 1\n"), "{metrics}");
        let digests = "mainstay_link_messages_total{direction=\"received\",kind=\"digest\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(digests)).expect("a line");
        if line != "0" {
            break;
        }
        assert!(began.elapsed() < SOON, "no digest came");
        std::thread::yield_now();
    }
    drop(b);
    wait_for(&a, false);
    let b = start(root, "b");
    wait_for(&a, true);
    wait_for(&b, true);
}

#[test]
fn a_wrong_name_is_a_wrong_command_line_and_what_is_there_is_kept() {
    let root = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let output = mainstay(root.path(), arguments).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, err) = run(&["node", "init", "--name", "Not.one"]);
    assert_eq!((code, err.lines().count()), (Some(2), 1), "{err}");
    let (code, out, err) = run(&["node", "init", "--name", "a"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("[node]\nname = \"a\"\n") && out.contains("[[gateway]]"), "{out}");
    assert!(err.contains("scp ") && err.contains("--ca a"), "{err}");
    let (code, _, err) = run(&["node", "init", "--name", "a"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("is there already; --force"), "{err}");
}
