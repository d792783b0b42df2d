//! The gateway under test: the real binary in a process of its own, on ports of its own.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::client::{Reply, get, get_json, post};

/// A running `mainstay serve`. It is killed when this is dropped.
pub struct Gateway {
    /// Base URL of the API, without `/v1`.
    pub api: String,
    /// Base URL of the admin listener.
    pub admin: String,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
}

impl Gateway {
    /// Starts a gateway with this configuration and waits until it listens.
    pub async fn start(config: &str) -> Gateway {
        Gateway::start_in(config, &[]).await
    }

    /// The same with these variables in its environment, which has no others.
    pub async fn start_in(config: &str, environment: &[(&str, &Path)]) -> Gateway {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("mainstay.toml");
        std::fs::write(&file, config).expect("write the configuration");
        Gateway::start_of(directory, &file, environment).await
    }

    /// The same with a file that is there.
    pub async fn start_at(file: &Path, environment: &[(&str, &Path)]) -> Gateway {
        Gateway::start_of(tempfile::tempdir().expect("a directory"), file, environment).await
    }

    async fn start_of(directory: TempDir, file: &Path, environment: &[(&str, &Path)]) -> Gateway {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(["serve", "--config"])
            .arg(file)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start the gateway");
        let stderr = child.stderr.take().expect("piped above");
        let said = Arc::default();
        let listening =
            tokio::time::timeout(Duration::from_secs(10), addresses(stderr, Arc::clone(&said)));
        let Ok(Some((api, admin))) = listening.await else {
            let said = said.lock().expect("no panic under this lock").join("\n");
            let config = std::fs::read_to_string(file).unwrap_or_default();
            panic!("the gateway does not listen. It said:\n{said}\nConfiguration:\n{config}");
        };
        Gateway { api, admin, child, said, directory }
    }

    /// The text of its configuration.
    pub fn config(&self) -> String {
        let file = self.directory.path().join("mainstay.toml");
        std::fs::read_to_string(file).expect("it was written")
    }

    /// Writes another configuration where this one was, whole or not at all, as an editor does.
    pub fn rewrite(&self, config: &str) {
        let fresh = self.directory.path().join("mainstay.toml.new");
        std::fs::write(&fresh, config).expect("write the configuration");
        std::fs::rename(&fresh, self.directory.path().join("mainstay.toml")).expect("rename it");
    }

    /// Has it read its configuration again, and returns what it answers.
    pub async fn reload(&self) -> Reply {
        post(&format!("{}/-/reload", self.admin)).await
    }

    /// What it wrote to stderr so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("no panic under this lock").join("\n")
    }

    /// The decisions about a request, each with its reason.
    pub async fn explain(&self, request: &str) -> Value {
        let reply = get_json(&format!("{}/explain/{request}", self.admin)).await;
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    /// The sum of a metric over the series whose labels contain all of `labels`, each written as
    /// `site="primary"`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let Reply { body, .. } = get(&format!("{}/metrics", self.admin)).await;
        let text = String::from_utf8(body).expect("metrics in UTF-8");
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Resident memory in bytes, without the parts of files in it: those of the binary come in when
    /// they first run, and how much is read at once is the system's choice.
    pub fn memory(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// Open file descriptors, sockets among them.
    pub fn open_files(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.id());
        std::fs::read_dir(directory).expect("list descriptors").count()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.id())).expect("read from /proc")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.said());
        }
    }
}

/// Reads the line that tells where it listens, and goes on reading so that it never blocks.
async fn addresses(stderr: ChildStderr, said: Arc<Mutex<Vec<String>>>) -> Option<(String, String)> {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        said.lock().expect("no panic under this lock").push(line.clone());
        let Some(found) = listening(&line) else { continue };
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                said.lock().expect("no panic under this lock").push(line);
            }
        });
        return Some(found);
    }
    None
}

/// `listening api=http://127.0.0.1:1 admin=http://127.0.0.1:2`, wherever it stands in the line.
fn listening(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once("listening ")?;
    let value = |key: &str| {
        rest.split_whitespace()
            .find_map(|word| word.strip_prefix(key))
            .map(|url| url.trim_end_matches('"').to_owned())
    };
    Some((value("api=")?, value("admin=")?))
}
