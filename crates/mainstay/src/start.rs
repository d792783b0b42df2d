//! Starts the server: reads the configuration, binds the addresses, says what was found, serves.

mod kept;
mod reader;
pub mod start_text;

use crate::command_line::{Serve, WRONG};
use crate::config_file::merge::Joined;
use crate::config_file::problem::Problem;
use crate::config_file::resolve::{Resolved, Surroundings, resolve};
use crate::config_file::source::{Override, Source};
use crate::environment::Environment;
use mainstay_server::gateway::dns::sockets::Sockets;
use mainstay_server::setup::{Listen, Listeners};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Starts the server, or only checks its configuration.
pub fn serve(options: &Serve) -> ExitCode {
    let environment = Environment::of_process();
    let resolved = match configuration(options, &environment) {
        Ok(resolved) => resolved,
        Err(problems) => {
            for problem in &problems {
                eprintln!("mainstay: {problem}");
            }
            match kept::last_good(options, &environment, &problems) {
                Some(resolved) => resolved,
                None => return ExitCode::from(WRONG),
            }
        }
    };
    for warning in &resolved.warnings {
        eprintln!("mainstay: warning: {warning}");
    }
    if options.check {
        let listen = &resolved.setup.listen;
        eprint!("{}", start_text::text(&resolved, listen.api));
        eprintln!("the configuration is right");
        return ExitCode::SUCCESS;
    }
    if options.with_parent {
        std::thread::spawn(end_with_parent);
    }
    let bound = bind("listen.api", resolved.setup.listen.api)
        .and_then(|api| Ok((api, bind("listen.admin", resolved.setup.listen.admin)?)))
        .and_then(|(api, admin)| bind_rest(&resolved, api, admin));
    match bound {
        Ok(listeners) => run(resolved, listeners, (options.clone(), environment)),
        Err(line) => {
            eprintln!("mainstay: {line}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration of the file, the environment and the command line.
///
/// # Errors
/// Everything that is wrong with it.
pub fn configuration(options: &Serve, environment: &Environment) -> Result<Resolved, Vec<Problem>> {
    merge(options, environment, None)
}

/// The same with `policy`, the text that all nodes share, in place of what the file says of it.
/// How the two are put together, `config_file::merge` tells.
///
/// # Errors
/// Everything that is wrong with either, and what a policy may not say.
pub fn merge(
    options: &Serve,
    environment: &Environment,
    policy: Option<&str>,
) -> Result<Resolved, Vec<Problem>> {
    let (name, text) = match &options.config {
        Some(path) => (path.display().to_string(), read(path)?),
        None => (String::new(), String::new()),
    };
    read_as((options, environment), (&name, &text), policy)
}

/// The same, where the file of this name has this text.
///
/// # Errors
/// See there.
pub fn read_as(
    (options, environment): (&Serve, &Environment),
    (name, text): (&str, &str),
    policy: Option<&str>,
) -> Result<Resolved, Vec<Problem>> {
    let mut overrides = environment.overrides();
    if let Some(address) = &options.listen {
        // Quoted, so that it stays a string whatever it looks like.
        let value = toml::Value::String(address.clone()).to_string();
        overrides.retain(|each| each.path != "listen.api");
        let (shown, path) = (String::from("--listen"), String::from("listen.api"));
        overrides.push(Override { shown, path, value });
    }
    let joined = policy.map(|policy| Joined::new(text, policy));
    let source = match &joined {
        Some(joined) => Source::joined(name, joined, &overrides)?,
        None => Source::parse(name, text, &overrides).map_err(|problem| vec![problem])?,
    };
    let (file, mut problems) = source.read().map_err(|problem| vec![problem])?;
    let base = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    match resolve(&source, file, &Surroundings { environment, base }) {
        Ok(resolved) if problems.is_empty() => Ok(resolved),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            problems.sort_by_key(|problem| problem.offset);
            Err(problems)
        }
    }
}

fn read(path: &Path) -> Result<String, Vec<Problem>> {
    std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot be read: {error}; mend the path after --config");
        let place = path.display().to_string();
        vec![Problem { place, key: String::new(), what, offset: 0 }]
    })
}

/// Connections that may wait to be accepted; the kernel lowers it to its own bound.
const BACKLOG: i32 = 4096;

fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address);
    let listener = listener.map_err(|error| cannot_listen(key, address, &error))?;
    // Listening again only widens the queue; the standard library's 128 would make a thousand
    // clients that come at once wait for seconds, because the kernel drops what does not fit.
    let wide = socket2::SockRef::from(&listener).listen(BACKLOG);
    let set = wide.and_then(|()| listener.set_nonblocking(true));
    set.map_err(|error| format!("{key}: cannot listen on {address}: {error}"))?;
    Ok(listener)
}

/// Binds what only some have: where names are answered, and where other nodes come.
fn bind_rest(
    resolved: &Resolved,
    api: TcpListener,
    admin: TcpListener,
) -> Result<Listeners, String> {
    let dns = bind_names(resolved)?;
    let link = resolved.setup.listen.link;
    let link = link.map(|address| bind("listen.link", address)).transpose()?;
    let status = bind_page(&resolved.setup.listen)?;
    Ok(Listeners { api, admin, dns, link, status })
}

/// Binds where the public's page is. One that nobody asked for keeps no gateway from starting.
fn bind_page(listen: &Listen) -> Result<Option<TcpListener>, String> {
    let Some(address) = listen.status else { return Ok(None) };
    match bind("listen.status", address) {
        Ok(listener) => Ok(Some(listener)),
        Err(line) if listen.is_status_asked => Err(line),
        Err(line) => {
            eprintln!("mainstay: warning: no status page here: {line}");
            Ok(None)
        }
    }
}

/// Binds where names are answered, if they are.
fn bind_names(resolved: &Resolved) -> Result<Option<Sockets>, String> {
    if resolved.setup.dns.is_none() {
        return Ok(None);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sockets = Sockets::default();
    for address in &resolved.setup.listen.dns {
        let bound = sockets.bind(*address, threads);
        bound.map_err(|error| cannot_listen("listen.dns", *address, &error))?;
    }
    Ok(Some(sockets))
}

fn cannot_listen(key: &str, address: SocketAddr, error: &std::io::Error) -> String {
    let port = address.port();
    let variable = format!("MAINSTAY__{}", key.to_uppercase().replace('.', "__"));
    let other = match key {
        "listen.api" => format!("--listen {}:0", address.ip()),
        _ => format!("{variable}={}:0", address.ip()),
    };
    let list = if key == "listen.dns" { "-ltunp" } else { "-ltnp" };
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "{key}: {address} is in use; stop who has it (`ss {list} 'sport = :{port}'` tells), \
             or choose another, e.g. `{other}` for any free port"
        ),
        std::io::ErrorKind::PermissionDenied if key == "listen.dns" => format!(
            "{key}: no permission for {address}; allow it (`setcap cap_net_bind_service=+ep \
             mainstay`, or AmbientCapabilities=CAP_NET_BIND_SERVICE in systemd)"
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("{key}: no permission for {address}; choose a port above 1023, e.g. `{other}`")
        }
        std::io::ErrorKind::AddrNotAvailable => format!(
            "{key}: {address} is no address of this machine; choose one, e.g. 127.0.0.1:{port}"
        ),
        _ => format!("{key}: cannot listen on {address}: {error}; choose another address"),
    }
}

fn run(
    mut resolved: Resolved,
    listeners: Listeners,
    (options, environment): (Serve, Environment),
) -> ExitCode {
    let addresses =
        listeners.api.local_addr().and_then(|api| Ok((api, listeners.admin.local_addr()?)));
    let (api, admin) = match addresses {
        Ok(addresses) => addresses,
        Err(error) => {
            eprintln!("mainstay: a listener has no address: {error}");
            return ExitCode::FAILURE;
        }
    };
    let asked = resolved.setup.listen.clone();
    resolved.setup.listen.api = api;
    resolved.setup.listen.admin = admin;
    let link = listeners.link.as_ref().and_then(|link| link.local_addr().ok());
    resolved.setup.listen.link = link;
    let status = listeners.status.as_ref().and_then(|status| status.local_addr().ok());
    resolved.setup.listen.status = status;
    if let Some(sockets) = &listeners.dns {
        resolved.setup.listen.dns = sockets.addresses().to_vec();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mainstay: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Heard from before anyone can know that we run: who reads the last line may send a signal.
    let heard = runtime.block_on(async {
        Ok::<_, std::io::Error>((asked_to_stop()?, signal(SignalKind::hangup())?))
    });
    let signals = match heard {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("mainstay: cannot hear signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    eprint!("{}", start_text::text(&resolved, api));
    eprintln!("{}", start_text::listening(&resolved));
    let reader = reader::reader(options, environment, asked, resolved.setup.listen.clone());
    match runtime.block_on(mainstay_server::run(resolved.setup, reader, listeners, signals)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the process when nobody holds the other end of its standard input any more.
fn end_with_parent() {
    // Whatever comes is of no interest; an error is an end as well.
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    std::process::exit(0);
}

/// Done at SIGTERM or SIGINT, which are heard from now on.
pub(crate) fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
