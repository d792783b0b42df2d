//! The real program: exit codes, what goes where, starting and stopping.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

/// The program without anything of this process's environment that it would read.
fn mainstay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (i32, String, String) {
    told(mainstay(arguments).output().expect("it runs"))
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

#[test]
fn help_is_data_and_a_mistake_is_one_line_on_stderr() {
    let (code, out, err) = output(&["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("Examples:") && out.contains("Exit codes:"), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours where no terminal is");
    let (code, out, err) = output(&["serv"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains("similar subcommand exists: 'serve'"), "{err}");
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("m.toml");
    std::fs::write(&path, "[listen]\napi = \"127.0.0.1:1\"\n").expect("written");
    let shown = path.to_str().expect("UTF-8");
    let (code, out, err) = output(&["serve", "--config", shown, "--check"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("http://127.0.0.1:1/v1"), "{err}");
    std::fs::write(&path, "ledger_days = 61\n").expect("written");
    let (code, _, err) = output(&["serve", "--config", shown, "--check"]);
    assert_eq!(code, 2);
    assert!(err.contains(":1: ledger_days:") && err.contains("write 62 or more"), "{err}");
    std::fs::write(&path, "[listen]\napi = \"x\"\nadmin = \"y\"\n").expect("written");
    let (code, _, err) = output(&["serve", "--config", shown, "--check"]);
    assert_eq!(code, 2);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 2, "{err}");
    assert!(lines[0].starts_with(&format!("mainstay: {shown}:2: listen.api: `x`")), "{err}");
    let (code, _, err) = output(&["serve", "--config", "no/such.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("no/such.toml: cannot be read"), "{err}");
}

#[test]
fn a_new_key_is_shown_apart_from_the_lines_for_the_file() {
    let (code, out, err) = output(&["keys", "create", "--name", "a", "--tier", "free"]);
    assert_eq!(code, 0);
    let key = err.lines().find_map(|line| line.trim().strip_prefix("sk-mainstay-")).expect("a key");
    assert_eq!(key.len(), 64);
    assert!(out.contains("[[key]]\nname = \"a\"\ntier = \"free\"\nhash = \""), "{out}");
    assert!(!out.contains(key));
}

#[test]
fn a_port_in_use_is_told_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, _, err) = output(&["serve", "--listen", &address]);
    assert_eq!(code, 1);
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains(&format!("{address} is in use")) && err.contains("--listen"), "{err}");
}

#[test]
fn nobody_to_explain_is_a_failure_and_no_id_is_a_mistake() {
    let (code, _, err) = output(&["explain", "req-1", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(code, 1);
    assert!(err.contains("is it running"), "{err}");
    assert_eq!(output(&["explain", "../metrics"]).0, 2);
}

#[test]
fn the_names_of_the_faults_are_listed() {
    let (code, out, _) = output(&["faults", "list"]);
    assert_eq!(code, 0);
    assert!(out.lines().any(|line| line.starts_with("f08 ")), "{out}");
}

#[test]
fn without_anything_it_starts_answers_and_stops_at_sigterm() {
    let mut started = mainstay(&["serve", "--listen", "127.0.0.1:0"]);
    started.env("MAINSTAY__LISTEN__ADMIN", "127.0.0.1:0").stderr(Stdio::piped());
    let mut child = Stopped(started.spawn().expect("it runs"));
    let stderr = child.0.stderr.take().expect("piped");
    let mut said = String::new();
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let api = lines
        .by_ref()
        .find_map(|line| {
            said.push_str(&line);
            said.push('\n');
            let rest = line.strip_prefix("listening api=http://")?.to_string();
            Some(rest.split(' ').next()?.to_string())
        })
        .expect("the line for machines");
    let reader = std::thread::spawn(move || lines.for_each(drop));
    assert!(said.contains(&format!("curl -N http://{api}/v1/chat/completions")), "{said}");
    let mut stream = TcpStream::connect(&api).expect("it listens");
    let ask = format!("GET /v1/models HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("\"chat\"") && reply.contains("\"builtin\""), "{reply}");
    let id = child.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
    assert_eq!(child.0.wait().expect("it ends").code(), Some(0));
    reader.join().expect("the reader ends with the program");
}

/// A child that does not outlive its test.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
