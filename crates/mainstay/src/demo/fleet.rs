//! The processes of the fleet: their files, and what is done to them.
//!
//! Each is this very program with a configuration file of its own. A node ends with its parent: it
//! reads a pipe that nobody writes to, and the pipe's end is its end.

use super::{predict, space};
use crate::admin_client::get;
use crate::command_line::{Demo, InitNode};
use crate::keys;
use crate::node;
use crate::ports;
use crate::top::sample::View;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The model that is compiled in.
const BUILTIN: &str = "builtin";
/// A slowed process runs and rests in turns of this length together.
const TURN: Duration = Duration::from_millis(100);
/// A demo is over before the ten minutes after which a component is believed to be well.
const GREEN: &str = "20s";
/// Between two questions whether a node is ready.
const ASK: Duration = Duration::from_millis(50);

/// The fleet.
pub struct Fleet {
    directory: Directory,
    /// Whether each has a network of its own.
    has_networks: bool,
    nodes: Vec<Node>,
    keys: Vec<(String, String)>,
}

/// Where its files are; those that nobody asked for go away with it.
enum Directory {
    Kept(PathBuf),
    Own(PathBuf),
}

/// One process.
pub struct Node {
    /// Its position.
    number: u8,
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Where its API is.
    pub api: SocketAddr,
    /// Where its admin listener is.
    pub admin: SocketAddr,
    link: SocketAddr,
    /// Where the public's page is, of the node that shows it.
    page: SocketAddr,
    config: PathBuf,
    running: Mutex<Running>,
}

/// What a process of the fleet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a site with its worker.
    Site,
    /// It takes clients' requests.
    Gateway,
    /// It shows the status page.
    Status,
}

/// How a process stands.
#[derive(Default)]
struct Running {
    child: Option<Child>,
    /// Ends its slowness.
    slow: Option<Arc<AtomicBool>>,
    state: State,
}

/// The same, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    #[default]
    Dead,
    /// It runs.
    Up,
    /// It is there and does nothing.
    Stopped,
    /// It runs so many times as slowly.
    Slow(u32),
}

impl Fleet {
    /// Writes the files of a fleet. Nothing is started.
    ///
    /// # Errors
    /// What is in the way.
    pub fn lay_out(options: &Demo) -> Result<Fleet, String> {
        let directory = match &options.dir {
            Some(dir) => Directory::Kept(dir.clone()),
            None => {
                Directory::Own(std::env::temp_dir().join(format!("mainstay-demo-{}", token()?)))
            }
        };
        let root = directory.path();
        std::fs::create_dir_all(root)
            .map_err(|error| format!("cannot make {}: {error}", root.display()))?;
        let root = root
            .canonicalize()
            .map_err(|error| format!("cannot find {}: {error}", root.display()))?;
        let names = names(options);
        let mut ports = ports::take(names.len() * 4)?.into_iter();
        let mut nodes = Vec::new();
        for (at, (name, role)) in names.into_iter().enumerate() {
            let init = InitNode {
                name: node_name(&name),
                dir: Some(root.join(&name)),
                ca: (at > 0).then(|| nodes.first().map(|n: &Node| root.join(&n.name))).flatten(),
                address: None,
                days: 30,
                force: true,
                json: false,
            };
            node::make(&init)?;
            let number = at as u8;
            let mut address = || ports.next().ok_or("no port");
            let [api, admin, link, page] = match options.namespaces {
                true => {
                    space::make(&name, number, role == Role::Gateway)?;
                    space::addresses(number, role == Role::Gateway)
                }
                false => [address()?, address()?, address()?, address()?],
            };
            nodes.push(Node {
                number,
                config: root.join(&name).join("mainstay.toml"),
                name,
                role,
                api,
                admin,
                link,
                page,
                running: Mutex::default(),
            });
        }
        let keys = ["enterprise", "pro", "free"].map(|tier| keys::make().map(|key| (tier, key)));
        let mut lines = String::new();
        let mut known = Vec::new();
        for made in keys {
            let (tier, (key, hash)) = made?;
            let _ = write!(
                lines,
                "[[key]]\nname = \"demo-{tier}\"\ntier = \"{tier}\"\nhash = \"{hash}\"\n\n"
            );
            known.push((tier.to_owned(), key));
        }
        let has_networks = options.namespaces;
        let fleet = Fleet { directory, has_networks, nodes, keys: known };
        for node in &fleet.nodes {
            let text = fleet.config(node, &root, &lines, options);
            std::fs::write(&node.config, text)
                .map_err(|error| format!("cannot write {}: {error}", node.config.display()))?;
        }
        Ok(fleet)
    }

    fn config(&self, node: &Node, root: &Path, keys: &str, options: &Demo) -> String {
        let mut text = node.listen();
        let own = root.join(&node.name);
        let file = |name: &str| toml::Value::String(own.join(name).display().to_string());
        let roles = match node.role {
            Role::Site => "\"site\", \"worker\"",
            Role::Gateway => "\"gateway\"",
            Role::Status => "\"status\"",
        };
        let _ = write!(
            text,
            "[node]\nname = \"{}\"\nca_file = {}\ncert_file = {}\nkey_file = {}\ndata_dir = {}\n\
             roles = [{roles}]\n",
            node_name(&node.name),
            file("ca.pem"),
            file("node.pem"),
            file("node.key"),
            file("data"),
        );
        if node.role == Role::Site {
            let _ = writeln!(text, "site = \"{}\"", node.name);
        }
        text.push_str(&self.page());
        for gateway in self.of(Role::Gateway) {
            let _ = write!(
                text,
                "\n[[gateway]]\nname = \"{}\"\nlink = \"https://{}\"\n",
                gateway.name, gateway.link
            );
        }
        let sites = || self.of(Role::Site);
        for site in sites() {
            let _ = write!(
                text,
                "\n[[site]]\nname = \"{}\"\nnode = \"https://{}\"\nnode_name = \"{}\"\n\
                 models = [{{ name = \"{}\", continue = {} }}]\n",
                site.name,
                site.link,
                node_name(&site.name),
                options.engine,
                // The built-in model cannot go on with what another began.
                options.engine != BUILTIN
            );
            if site.name == node.name {
                let _ = write!(
                    text,
                    "engine = {{ model = \"{}\" }}\ncapacity = {}\n",
                    options.engine, options.streams
                );
                let is_measured = options.tokens_per_second.is_none() && options.engine == BUILTIN;
                if !is_measured {
                    let _ = writeln!(text, "tokens_per_second = {}", predict::tokens(options));
                }
            }
        }
        let served: Vec<String> =
            sites().map(|site| format!("\"{}/{}\"", site.name, options.engine)).collect();
        let _ = write!(
            text,
            "\n[[model]]\nname = \"chat\"\nserved_by = [{}]\n\n{}",
            served.join(", "),
            if node.role == Role::Gateway { keys } else { "" }
        );
        text
    }

    /// What all say of the status page.
    fn page(&self) -> String {
        let mut text = format!("\n[status]\ntitle = \"Demo fleet\"\ngreen = \"{GREEN}\"\n");
        for Node { name, link, .. } in self.of(Role::Status) {
            let _ =
                write!(text, "\n[[status.node]]\nname = \"{name}\"\nlink = \"https://{link}\"\n");
        }
        text
    }

    /// The processes that do this.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// How many processes it has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where its files are.
    pub fn directory(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// The processes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The process of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, name: &str) -> Result<&Node, String> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| format!("no process `{name}`"))
    }

    /// A key of each tier.
    pub fn keys(&self) -> &[(String, String)] {
        &self.keys
    }

    /// The gateways' API.
    pub fn addresses(&self) -> Vec<String> {
        self.of(Role::Gateway).map(|node| format!("http://{}", node.api)).collect()
    }

    /// Starts all processes.
    ///
    /// # Errors
    /// If one cannot be.
    pub fn start_all(&self) -> Result<(), String> {
        self.nodes.iter().try_for_each(|node| self.start(&node.name))
    }

    /// Waits until every gateway is ready and reaches every site.
    ///
    /// # Errors
    /// Which is not, and where its log is.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        for node in &self.nodes {
            loop {
                if self.is_ready(node) {
                    break;
                }
                if Instant::now() >= deadline || node.has_ended() {
                    let log = node.config.with_extension("log");
                    return Err(format!("{} does not start; see {}", node.name, log.display()));
                }
                std::thread::sleep(ASK);
            }
        }
        Ok(())
    }

    fn is_ready(&self, node: &Node) -> bool {
        let admin = format!("http://{}", node.admin);
        let ask = |path: &str| get(&admin, path, "*/*").ok().filter(|(status, _)| *status == 200);
        if ask("/readyz").is_none() {
            return false;
        }
        let Some((_, view)) = ask("/view").filter(|_| node.role == Role::Gateway) else {
            return node.role != Role::Gateway;
        };
        // Credit has come from every site.
        let view: View = serde_json::from_str(&view).unwrap_or_default();
        let sites = self.of(Role::Site).count();
        view.targets.iter().filter(|target| target.capacity > 0.0).count() >= sites
    }

    /// Sites that are down for a gateway that runs and is not among `nodes`.
    pub fn down_at_others(&self, nodes: &[String]) -> Vec<String> {
        let mut down = Vec::new();
        for node in self.of(Role::Gateway).filter(|node| !nodes.contains(&node.name)) {
            let told = get(&format!("http://{}", node.admin), "/view", "*/*");
            let Ok((200, view)) = told else { continue };
            let view: View = serde_json::from_str(&view).unwrap_or_default();
            down.extend(view.targets.into_iter().filter(|t| t.state == "down").map(|t| t.site));
        }
        down.sort_unstable();
        down.dedup();
        down
    }

    /// What a person needs to speak to it.
    pub fn greeting(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let Node { name, api, admin, page, .. } = node;
            let _ = match node.role {
                Role::Gateway => writeln!(text, "  gateway  {name:<6} http://{api}"),
                Role::Site => writeln!(text, "  site     {name:<6} admin http://{admin}"),
                Role::Status => writeln!(text, "  page     {name:<6} http://{page}/"),
            };
        }
        if let (Some((tier, key)), Some(url)) = (self.keys.first(), self.addresses().first()) {
            let body = r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;
            let _ = write!(
                text,
                "try it ({tier}):\n  curl {url}/v1/chat/completions \\\n    \
                 -H 'authorization: Bearer {key}' \\\n    -d '{body}'\n"
            );
        }
        text
    }

    /// Starts a process that is not there.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn start(&self, name: &str) -> Result<(), String> {
        let node = self.node(name)?;
        let mut running = node.lock();
        if running.child.is_some() {
            return Ok(());
        }
        let told = |what: &str, error: std::io::Error| format!("cannot {what} {name}: {error}");
        let log = node.config.with_extension("log");
        let log = File::options().create(true).append(true).open(log);
        let log = log.map_err(|error| told("write the log of", error))?;
        let again = log.try_clone().map_err(|error| told("write the log of", error))?;
        let program = std::env::current_exe().map_err(|error| told("start", error))?;
        let mut command = match self.has_networks {
            true => space::command(name, &program),
            false => Command::new(program),
        };
        let child = command
            .args(["serve", "--with-parent", "--config"])
            .arg(&node.config)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(again)
            .spawn();
        running.child = Some(child.map_err(|error| told("start", error))?);
        running.state = State::Up;
        Ok(())
    }

    /// Kills a process at once.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn kill(&self, name: &str) -> Result<(), String> {
        self.node(name)?.lock().end();
        Ok(())
    }

    /// Lets a process stand still: it is there and does nothing.
    ///
    /// # Errors
    /// If there is none.
    pub fn pause(&self, name: &str) -> Result<(), String> {
        let mut running = self.node(name)?.lock();
        running.hurry();
        running.signal(Signal::STOP);
        running.state = State::Stopped;
        Ok(())
    }

    /// Lets a process that stood still or was slow go on.
    ///
    /// # Errors
    /// If there is none.
    pub fn resume(&self, name: &str) -> Result<(), String> {
        let mut running = self.node(name)?.lock();
        running.hurry();
        running.signal(Signal::CONT);
        running.state = State::Up;
        Ok(())
    }

    /// Cuts a process off from the fleet, or joins it again.
    ///
    /// # Errors
    /// If there is none, or it has no network of its own.
    pub fn cut(&self, name: &str, is_cut: bool) -> Result<(), String> {
        self.networks()?;
        space::cut(self.node(name)?.number, is_cut)
    }

    /// Lets nothing come to `name` from `other` any more, or lets it again.
    ///
    /// # Errors
    /// If one is not there, or they have no networks of their own.
    pub fn deafen(&self, (name, other): (&str, &str), is_cut: bool) -> Result<(), String> {
        self.networks()?;
        space::deafen(&self.node(other)?.name, self.node(name)?.number, is_cut)
    }

    fn networks(&self) -> Result<(), String> {
        let what = "only a process with a network of its own can be cut off; add --namespaces";
        if self.has_networks { Ok(()) } else { Err(what.to_owned()) }
    }

    /// Makes a process so many times as slow, by letting it run only that part of the time.
    ///
    /// # Errors
    /// If there is none.
    pub fn slow(&self, name: &str, factor: u32) -> Result<(), String> {
        let mut running = self.node(name)?.lock();
        running.hurry();
        let Some(pid) = running.pid() else { return Ok(()) };
        let over = Arc::new(AtomicBool::new(false));
        running.slow = Some(over.clone());
        running.state = State::Slow(factor);
        std::thread::spawn(move || {
            let run = TURN / factor.max(1);
            while !over.load(Ordering::Relaxed) {
                let _ = kill_process(pid, Signal::CONT);
                std::thread::sleep(run);
                let _ = kill_process(pid, Signal::STOP);
                std::thread::sleep(TURN - run);
            }
            let _ = kill_process(pid, Signal::CONT);
        });
        Ok(())
    }
}

impl Node {
    /// How it stands.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Where it listens, for its file.
    fn listen(&self) -> String {
        let Node { name, api, admin, link, page, .. } = self;
        let page = match self.role {
            Role::Status => format!("status = \"{page}\"\n"),
            Role::Site | Role::Gateway => String::new(),
        };
        format!(
            "# {name} of a demo fleet.\n[listen]\napi = \"{api}\"\nadmin = \"{admin}\"\n\
             link = \"{link}\"\n{page}\n"
        )
    }

    fn has_ended(&self) -> bool {
        let mut running = self.lock();
        running.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Running {
    fn pid(&self) -> Option<Pid> {
        let id = self.child.as_ref()?.id();
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // Our own child, not yet waited for: the number is its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// Not slow any more.
    fn hurry(&mut self) {
        if let Some(over) = self.slow.take() {
            over.store(true, Ordering::Relaxed);
            // Its last turn must not stop what goes on from here.
            std::thread::sleep(TURN * 2);
        }
    }

    fn end(&mut self) {
        self.hurry();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.state = State::Dead;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| node.lock().end());
        if let Directory::Own(path) = &self.directory {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Directory::Kept(path) | Directory::Own(path) => path,
        }
    }
}

/// What the processes are called and do: sites, gateways, the status page.
fn names(options: &Demo) -> Vec<(String, Role)> {
    let sites = (0..options.sites).map(|at| (site_name(at), Role::Site));
    let gateways = (1..=options.gateways).map(|at| (format!("gw-{at}"), Role::Gateway));
    let page = (String::from("status"), Role::Status);
    sites.chain(gateways).chain([page]).collect()
}

/// `A`, `B`, … as on the standard bench.
pub fn site_name(at: u8) -> String {
    char::from(b'A' + at.min(25)).to_string()
}

/// Names of nodes are those of hosts.
fn node_name(name: &str) -> String {
    match name.len() {
        1 => format!("site-{}", name.to_lowercase()),
        _ => name.to_owned(),
    }
}

fn token() -> Result<String, String> {
    let mut random = [0; 6];
    getrandom::fill(&mut random)
        .map_err(|error| format!("the system gives no randomness: {error}"))?;
    Ok(keys::hex(&random))
}
