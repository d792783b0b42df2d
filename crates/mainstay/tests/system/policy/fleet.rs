//! A fleet of real processes for the tests of policy: four gateways, a site, and the node that
//! publishes. What dies is started again at once, as a supervisor would.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Nobody waits longer than this for what must come: machines are busy with other tests.
pub const SOON: Duration = Duration::from_secs(90);

/// The gateways.
pub const GATEWAYS: [&str; 4] = ["gw-1", "gw-2", "gw-3", "gw-4"];
const SITE: &str = "site-a";
/// Who publishes.
pub const SOURCE: &str = "office";
/// The node of the status page; only one test starts it.
pub const STATUS: &str = "status";

/// The fleet; everything ends with it.
pub struct Fleet {
    root: tempfile::TempDir,
    nodes: Vec<Node>,
    /// The key of both the own files and the policy, and one that only the policy has.
    pub keys: [(String, String); 2],
}

/// One process.
pub struct Node {
    pub name: String,
    api: SocketAddr,
    admin: SocketAddr,
    link: SocketAddr,
    child: Mutex<Option<Child>>,
}

impl Fleet {
    /// Lays the files out and starts everybody.
    pub fn start() -> Fleet {
        let root = tempfile::tempdir().expect("a directory");
        let port = || mainstay::ports::take_one().expect("a port");
        let names = GATEWAYS.into_iter().chain([SITE, SOURCE, STATUS]);
        let nodes: Vec<Node> = names
            .map(|name| Node {
                name: name.into(),
                api: port(),
                admin: port(),
                link: port(),
                child: Mutex::default(),
            })
            .collect();
        let keys = [(); 2].map(|()| mainstay::keys::make().expect("a key"));
        let fleet = Fleet { root, nodes, keys };
        for (at, node) in fleet.nodes.iter().enumerate() {
            let mut init = vec!["node", "init", "--json", "--name", &node.name];
            if at > 0 {
                init.extend(["--ca", GATEWAYS[0]]);
            }
            let made = fleet.mainstay(&init);
            assert!(made.0, "{}", made.1);
            std::fs::write(fleet.path(&node.name, "mainstay.toml"), fleet.own(node))
                .expect("written");
        }
        let all = fleet.nodes.iter().filter(|node| node.name != STATUS);
        all.for_each(|node| fleet.up(&node.name));
        GATEWAYS.iter().for_each(|name| fleet.wait_served(name));
        fleet.until("the source listens", || fleet.standing(SOURCE).is_some());
        fleet
    }

    fn path(&self, node: &str, file: &str) -> PathBuf {
        self.root.path().join(node).join(file)
    }

    /// Where a node keeps what outlives it.
    pub fn data(&self, node: &str) -> PathBuf {
        self.path(node, "data")
    }

    /// A node's own file: all that it needs to start before the first policy comes.
    fn own(&self, node: &Node) -> String {
        let roles = match node.name.as_str() {
            SITE => "roles = [\"site\", \"worker\"]\nsite = \"A\"",
            SOURCE => "roles = [\"policy\"]",
            STATUS => "roles = [\"status\"]",
            _ => "roles = [\"gateway\"]",
        };
        let engine = match node.name.as_str() {
            SITE => "engine = { model = \"builtin\" }\ncapacity = 64\ntokens_per_second = 2000\n",
            _ => "",
        };
        let directory = self.root.path().join(&node.name);
        let directory = directory.display();
        let page = if node.name == STATUS { "status = \"127.0.0.1:0\"\n" } else { "" };
        format!(
            "[listen]\napi = \"{}\"\nadmin = \"{}\"\nlink = \"{}\"\n{page}\
             [node]\nname = \"{}\"\n{roles}\nca_file = \"{directory}/ca.pem\"\n\
             cert_file = \"{directory}/node.pem\"\nkey_file = \"{directory}/node.key\"\n\
             data_dir = \"{directory}/data\"\n\
             [policy]\nsource = \"{SOURCE}\"\nlink = \"https://{}\"\nrehearse = true\n\
             poll = \"300ms\"\ncanary = \"4s\"\nsoak = \"8s\"\n\
             taste_memory = \"256MiB\"\n{}",
            node.api,
            node.admin,
            node.link,
            node.name,
            self.node(SOURCE).link,
            self.shared(engine, &self.keys[..1], "10m"),
        )
    }

    /// What all nodes share, with these keys; the longest request tells contents apart.
    fn shared(&self, engine: &str, keys: &[(String, String)], longest: &str) -> String {
        let mut text = String::new();
        for gateway in GATEWAYS {
            let link = self.node(gateway).link;
            text += &format!("[[gateway]]\nname = \"{gateway}\"\nlink = \"https://{link}\"\n");
        }
        let (site, page) = (self.node(SITE).link, self.node(STATUS).link);
        text += &format!("[[status.node]]\nname = \"{STATUS}\"\nlink = \"https://{page}\"\n");
        text += &format!(
            "[[site]]\nname = \"A\"\nnode = \"https://{site}\"\nnode_name = \"{SITE}\"\n\
             models = [{{ name = \"builtin\" }}]\n{engine}\
             [[model]]\nname = \"chat\"\nserved_by = [\"A/builtin\"]\n\
             [limits]\nrequest = \"{longest}\"\n"
        );
        for (at, (_, hash)) in keys.iter().enumerate() {
            text += &format!("[[key]]\nname = \"k{at}\"\ntier = \"pro\"\nhash = \"{hash}\"\n");
        }
        text
    }

    /// A policy with both keys.
    pub fn policy(&self, longest: &str, more: &str) -> String {
        format!("{}{more}", self.shared("", &self.keys, longest))
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).expect(name)
    }

    /// Starts a process.
    pub fn up(&self, name: &str) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(name, "log"))
            .expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .env_clear()
            .args(["serve", "--config"])
            .arg(self.path(name, "mainstay.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        *self.node(name).child.lock().expect("no panic") = Some(child);
    }

    /// Kills a process.
    pub fn kill(&self, name: &str) {
        if let Some(mut child) = self.node(name).child.lock().expect("no panic").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether a process that was started has ended by itself; it is forgotten then.
    pub fn has_died(&self, name: &str) -> bool {
        let mut held = self.node(name).child.lock().expect("no panic");
        let has = held.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if has {
            held.take();
        }
        has
    }

    /// What `mainstay` says to these arguments.
    pub fn mainstay(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .current_dir(self.root.path())
            .args(arguments)
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// How long a process takes here and now that does nothing: others may have the processors.
    pub fn busy(&self) -> Duration {
        let began = Instant::now();
        assert!(self.mainstay(&["--version"]).0);
        began.elapsed()
    }

    /// Publishes a policy at the source.
    pub fn publish(&self, content: &str, more: &[&str]) -> (bool, String) {
        let path = self.root.path().join("policy.toml");
        std::fs::write(&path, content).expect("written");
        let admin = format!("http://{}", self.node(SOURCE).admin);
        let arguments = ["policy", "publish", "policy.toml", "--reason", "a test", "--admin"];
        self.mainstay(&[&arguments, [admin.as_str()].as_slice(), more].concat())
    }

    /// What a node says of generations; nothing if it is not there.
    pub fn standing(&self, name: &str) -> Option<Value> {
        let (status, body) = get(self.node(name).admin, "/-/policy")?;
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    /// The generation in force at a node.
    pub fn runs(&self, name: &str) -> Option<u64> {
        self.standing(name)?["in_force"]["generation"].as_u64()
    }

    /// Where a node's operator's door is.
    pub fn admin(&self, name: &str) -> SocketAddr {
        self.node(name).admin
    }

    /// The orders in force at a node.
    pub fn orders(&self, name: &str) -> String {
        get(self.node(name).admin, "/-/orders").map_or(String::new(), |(_, body)| body)
    }

    /// Returns when a gateway serves.
    pub fn wait_served(&self, name: &str) {
        let (node, key) = (self.node(name), &self.keys[0].0);
        self.until(&format!("{name} serves"), || {
            ask(node.api, key).is_some_and(|status| status == 200)
        });
    }

    /// Whether a gateway told this node what it counted.
    pub fn is_told(&self, name: &str) -> bool {
        let told = get(self.node(name).admin, "/metrics");
        let told =
            told.filter(|(status, _)| *status == 200).map_or_else(String::new, |(_, text)| text);
        let is_count = |line: &&str| line.contains("direction=\"received\",kind=\"summary\"");
        told.lines().find(is_count).is_some_and(|line| !line.ends_with(" 0"))
    }

    /// Asks a gateway with a key.
    pub fn ask(&self, name: &str, key: &str) -> Option<u16> {
        ask(self.node(name).api, key)
    }

    /// Looks until it is so.
    #[track_caller]
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let limit = Instant::now() + SOON;
        while !is_so() {
            assert!(Instant::now() < limit, "not within {SOON:?}: {what}\n{}", self.told());
            // waits for: processes, which tell nobody when they are done
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the processes wrote and say, for whoever reads a failure.
    fn told(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let log = std::fs::read_to_string(self.path(&node.name, "log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains("olicy")).collect();
            let last = &lines[lines.len().saturating_sub(8)..];
            text +=
                &format!("{}: {:?}\n  {}\n", node.name, self.runs(&node.name), last.join("\n  "));
        }
        text
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| self.kill(&node.name));
    }
}

/// Clients that ask all gateways in turn, and another one where one does not answer.
pub struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    lost: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Clients {
    /// They begin.
    pub fn start(fleet: &Fleet) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let (answered, lost) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let threads = (0..2usize).map(|mine| {
            let gateways: Vec<SocketAddr> =
                GATEWAYS.iter().map(|name| fleet.node(name).api).collect();
            let key = fleet.keys[0].0.clone();
            let (stop, answered, lost) = (stop.clone(), answered.clone(), lost.clone());
            std::thread::spawn(move || {
                let mut turn = mine;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    // As any client of several addresses: who does not answer is passed over.
                    let tries = (0..gateways.len()).map(|more| (turn + more) % gateways.len());
                    let mut said = tries.filter_map(|at| ask(gateways[at], &key));
                    match said.next() {
                        Some(200) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        other => lost.lock().expect("no panic").push(format!("{other:?}")),
                    }
                    // waits for: nothing; a client asks now and then
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        });
        let threads = threads.collect();
        Clients { stop, answered, lost, threads }
    }

    /// They end; nobody lost anything.
    pub fn lost_nothing(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let lost = self.lost.lock().expect("no panic");
        let answered = self.answered.load(Ordering::Relaxed);
        assert!(lost.is_empty(), "{answered} answered, {} lost: {lost:?}", lost.len());
        assert!(answered > 4, "only {answered} answered");
    }
}

/// Status of a short question; none if there is no whole answer.
fn ask(api: SocketAddr, key: &str) -> Option<u16> {
    let body = "{\"model\":\"chat\",\"max_tokens\":4,\
                \"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let (status, body) = exchange(api, &format!("{head}{body}"))?;
    (!body.is_empty()).then_some(status)
}

fn get(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    exchange(admin, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

fn exchange(to: SocketAddr, text: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
