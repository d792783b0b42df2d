//! Network namespaces: each process of the fleet on a network of its own, so that its links can be
//! cut as a cable is, with nothing that says so.
//!
//! The demo starts itself anew in a user, network and mount namespace of its own, which needs no
//! root and leaves nothing behind. There it is the router between the processes and the place of
//! the clients. A gateway has two links: one to the fleet, which is cut, and one to its clients.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode, Stdio};

/// Set for the demo inside.
const INSIDE: &str = "MAINSTAY_DEMO_INSIDE";
/// What a machine that does not permit it is told; tests look for it.
pub const NOT_PERMITTED: &str = "network namespaces are not permitted here";
/// Each process has its namespace to itself: its ports can be the same everywhere.
const PORTS: [u16; 4] = [8080, 8081, 8443, 8082];

/// Whether this process is the one inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts this program anew inside, with the same arguments, and waits for it.
///
/// # Errors
/// If this machine does not permit it.
pub fn enter() -> Result<ExitCode, String> {
    let shell = "mount -t tmpfs none /run && exec \"$@\"";
    let inside = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", shell, "sh"]);
        command.arg(program);
        command
    };
    let probe = "ip netns add probe && ip link add v0 type veth peer name v1 netns probe";
    let tried = inside("sh").args(["-c", probe]).stdin(Stdio::null()).output();
    let tried = tried.map_err(|error| format!("{NOT_PERMITTED}: cannot run unshare: {error}"))?;
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr);
        let why = why.lines().next().unwrap_or("unshare failed").to_owned();
        return Err(format!(
            "{NOT_PERMITTED}: {why}; needs unshare and iproute2, and user namespaces or root"
        ));
    }
    let program = std::env::current_exe().map_err(|error| format!("cannot start: {error}"))?;
    let status = inside(&program.display().to_string())
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .map_err(|error| format!("cannot start in a namespace: {error}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Where a process listens, by its number: API, admin, link, page. A site is asked by nobody else.
pub fn addresses(number: u8, is_gateway: bool) -> [SocketAddr; 4] {
    let fleet = ip(77, number, 2);
    let clients = if is_gateway { ip(78, number, 2) } else { fleet };
    let api = if is_gateway { clients } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let [of_api, of_admin, of_link, of_page] = PORTS;
    [(api, of_api), (clients, of_admin), (fleet, of_link), (clients, of_page)].map(SocketAddr::from)
}

/// Makes the namespace of a process of this name, and its links.
///
/// # Errors
/// What `ip` says.
pub fn make(name: &str, number: u8, is_gateway: bool) -> Result<(), String> {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        .map_err(|error| format!("cannot route between namespaces: {error}"))?;
    // What an earlier run left.
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
    let mut here = format!("netns add {name}\n");
    let mut there = String::from("link set lo up\n");
    let mut links = vec![(fleet_link(number), "fleet", 77)];
    if is_gateway {
        links.push((format!("clients{number}"), "clients", 78));
    }
    for (ours, theirs, net) in links {
        here += &format!("link add {ours} type veth peer name {theirs} netns {name}\n");
        here += &format!("addr add {}/24 dev {ours}\nlink set {ours} up\n", ip(net, number, 1));
        there += &format!("addr add {}/24 dev {theirs}\n", ip(net, number, 2));
        there += &format!("link set {theirs} up\n");
    }
    there += &format!("route add default via {}\n", ip(77, number, 1));
    run(&["-batch", "-"], &here)?;
    run(&["-n", name, "-batch", "-"], &there)
}

/// The command that runs a program in this namespace.
pub fn command(name: &str, program: &std::path::Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]).arg(program);
    command
}

/// Cuts a process off from the whole fleet, or joins it again. What is sent is lost.
///
/// # Errors
/// What `ip` says.
pub fn cut(number: u8, is_cut: bool) -> Result<(), String> {
    let state = if is_cut { "down" } else { "up" };
    run(&["link", "set", &fleet_link(number), state], "")
}

/// Cuts the way back from `name` to process `number`, or mends it. What is sent is lost.
///
/// # Errors
/// What `ip` says.
pub fn deafen(name: &str, number: u8, is_cut: bool) -> Result<(), String> {
    let verb = if is_cut { "add" } else { "del" };
    let net = format!("{}/24", ip(77, number, 0));
    run(&["-n", name, "route", verb, "blackhole", &net], "")
}

fn fleet_link(number: u8) -> String {
    format!("fleet{number}")
}

fn ip(net: u8, number: u8, host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, net, number, host))
}

fn run(arguments: &[&str], input: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("cannot run ip: {error}");
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(told)?;
    }
    let output = child.wait_with_output().map_err(told)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
