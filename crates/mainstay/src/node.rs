//! `mainstay node init`: the private authority of a fleet, and a certificate for each node.
//!
//! The first call makes the authority, the others use it. Certificates last long on purpose: a
//! link that stops because nobody renewed a file, or because a clock jumped, is an outage of our
//! own making. Who is to leave the fleet is taken out of the configuration.

use crate::command_line::{InitNode, WRONG};
use crate::stdout::say;
use mainstay_server::link::{Identity, NodeName};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Who signs, as it stands in certificates: the same each time, so that the key alone makes the
/// authority.
const AUTHORITY: &str = "Mainstay nodes";
/// Only the owner reads a key.
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;
/// Where others reach a node unless told otherwise.
const PORT: u16 = 8443;

/// What was made.
pub(crate) struct Made {
    name: NodeName,
    directory: PathBuf,
    /// Where the authority is.
    authority: PathBuf,
    is_new_authority: bool,
    address: String,
}

/// Makes a node's certificate. Lines for the configuration go to stdout, the rest to stderr.
pub fn init(options: &InitNode) -> ExitCode {
    if let Err(what) = NodeName::new(&options.name) {
        eprintln!("mainstay: {what}");
        return ExitCode::from(WRONG);
    }
    let made = match make(options) {
        Ok(made) => made,
        Err(what) => {
            eprintln!("mainstay: {what}");
            return ExitCode::FAILURE;
        }
    };
    if options.json {
        say(&format!("{}\n", json(&made)));
        return ExitCode::SUCCESS;
    }
    eprint!("{}", talk(&made));
    say(&format!("{}{}", own_lines(&made), shared_lines(&made)));
    ExitCode::SUCCESS
}

/// Makes the files. The error says how to mend it.
pub(crate) fn make(options: &InitNode) -> Result<Made, String> {
    let name = NodeName::new(&options.name)?;
    let directory = options.dir.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    let authority = options.ca.clone().unwrap_or_else(|| directory.clone());
    let files = Files { directory: &directory, force: options.force };
    for file in ["node.pem", "node.key"] {
        let path = directory.join(file);
        if path.exists() && !options.force {
            return Err(format!(
                "{} is there already; --force replaces the node's certificate and key and keeps \
                 the authority, --dir names another directory",
                path.display()
            ));
        }
    }
    let key = authority.join("ca.key");
    let is_new_authority = !key.exists();
    if is_new_authority && (options.ca.is_some() || authority.join("ca.pem").exists()) {
        return Err(format!(
            "{} holds no authority's key (ca.key); name with --ca the directory where the first \
             `mainstay node init` made it",
            authority.display()
        ));
    }
    let made = |e: rcgen::Error| format!("cannot make a certificate: {e}");
    files.make_directory()?;
    let (issuer, certificate) = match is_new_authority {
        true => {
            let pair = KeyPair::generate().map_err(made)?;
            let certificate = authority_params().self_signed(&pair).map_err(made)?.pem();
            files.write("ca.key", &pair.serialize_pem(), SECRET)?;
            (Issuer::new(authority_params(), pair), certificate)
        }
        false => {
            let pair = KeyPair::from_pem(&read(&key)?)
                .map_err(|e| format!("{} is no key that can be used: {e}", key.display()))?;
            (Issuer::new(authority_params(), pair), read(&authority.join("ca.pem"))?)
        }
    };
    let pair = KeyPair::generate().map_err(made)?;
    let params = node_params(&name, options.days)?;
    let own = params.signed_by(&pair, &issuer).map_err(made)?;
    files.copy("ca.pem", &certificate)?;
    files.write("node.key", &pair.serialize_pem(), SECRET)?;
    files.write("node.pem", &own.pem(), PUBLIC)?;
    let path = |file: &str| directory.join(file);
    Identity::load(&name, &path("ca.pem"), (&path("node.pem"), &path("node.key")))
        .map_err(|what| format!("{what}; do {} and ca.pem belong together?", key.display()))?;
    let address = options.address.clone().unwrap_or_else(|| format!("{name}:{PORT}"));
    Ok(Made { name, directory, authority, is_new_authority, address })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    // It ends when its owner deletes it.
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

fn node_params(name: &NodeName, days: u32) -> Result<CertificateParams, String> {
    let made = |e: rcgen::Error| format!("cannot make a certificate: {e}");
    let mut params = CertificateParams::new(vec![name.in_certificate()]).map_err(made)?;
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // A machine whose clock is behind takes it too.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(i64::from(days));
    Ok(params)
}

/// Writes into one directory, and over nothing that it was not told to.
struct Files<'a> {
    directory: &'a Path,
    force: bool,
}

impl Files<'_> {
    fn make_directory(&self) -> Result<(), String> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(self.directory);
        made.map_err(|e| format!("cannot make directory {}: {e}", self.directory.display()))
    }

    /// A file appears whole or not at all.
    fn write(&self, file: &str, text: &str, mode: u32) -> Result<(), String> {
        let path = self.directory.join(file);
        let told = |e: std::io::Error| format!("cannot write {}: {e}", path.display());
        if path.exists() && !self.force {
            return Err(format!("{} is there already; --force replaces it", path.display()));
        }
        let fresh = self.directory.join(format!(".{file}.new"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(told(error)),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let mut written = options.write(true).create_new(true).mode(mode).open(&fresh);
        if let Ok(file) = &mut written {
            let whole = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            whole.map_err(told)?;
        }
        written.and_then(|_| fs::rename(&fresh, &path)).map_err(told)
    }

    /// The same, unless it says so already.
    fn copy(&self, file: &str, text: &str) -> Result<(), String> {
        match fs::read_to_string(self.directory.join(file)) {
            Ok(there) if there == text => Ok(()),
            Ok(_) | Err(_) => self.write(file, text, PUBLIC),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// What a person is told.
fn talk(made: &Made) -> String {
    let Made { name, directory, authority, is_new_authority, .. } = made;
    let (directory, authority) = (directory.display(), authority.display());
    let mut text = String::new();
    if *is_new_authority {
        text.push_str(&format!(
            "made an authority: {authority}/ca.pem, and its key, {authority}/ca.key.\n\
             Keep ca.key away from the nodes: whoever has it can add nodes.\n"
        ));
    }
    text.push_str(&format!(
        "made the node {name}: {directory}/node.pem and {directory}/node.key\n\
         copy ca.pem, node.pem and node.key to its machine, e.g.\n  \
         scp {directory}/ca.pem {directory}/node.pem {directory}/node.key HOST:/etc/mainstay/\n\
         another node: mainstay node init --name OTHER --ca {authority}\n\
         for the configuration files:\n"
    ));
    text
}

/// For this node's own file.
fn own_lines(made: &Made) -> String {
    let quoted = |text: String| toml::Value::String(text).to_string();
    let path = |file: &str| quoted(made.directory.join(file).display().to_string());
    let port = made.address.rsplit_once(':').map_or(PORT.to_string(), |(_, port)| port.into());
    format!(
        "\n# Of {name} alone; and below [listen]: link = \"0.0.0.0:{port}\"\n[node]\nname = {}\n\
         ca_file = {}\ncert_file = {}\nkey_file = {}\n",
        quoted(made.name.to_string()),
        path("ca.pem"),
        path("node.pem"),
        path("node.key"),
        name = made.name,
    )
}

/// For the files of all nodes, this one's too.
fn shared_lines(made: &Made) -> String {
    let quoted = |text: String| toml::Value::String(text).to_string();
    format!(
        "\n# Of all nodes, in the same order everywhere.\n[[gateway]]\nname = {}\nlink = {}\n",
        quoted(made.name.to_string()),
        quoted(format!("https://{}", made.address))
    )
}

fn json(made: &Made) -> serde_json::Value {
    let path = |directory: &Path, file: &str| directory.join(file).display().to_string();
    serde_json::json!({
        "name": made.name.as_str(),
        "ca_file": path(&made.directory, "ca.pem"),
        "cert_file": path(&made.directory, "node.pem"),
        "key_file": path(&made.directory, "node.key"),
        "ca_key_file": path(&made.authority, "ca.key"),
        "made_authority": made.is_new_authority,
        "link": format!("https://{}", made.address),
        "own_lines": own_lines(made),
        "shared_lines": shared_lines(made),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn options(root: &Path, name: &str, ca: Option<&str>) -> InitNode {
        InitNode {
            name: name.into(),
            dir: Some(root.join(name)),
            ca: ca.map(|ca| root.join(ca)),
            address: None,
            days: 3650,
            force: false,
            json: false,
        }
    }

    fn identity(root: &Path, name: &str) -> Result<Identity, String> {
        let path = |file: &str| root.join(name).join(file);
        let node = NodeName::new(name).expect("a name");
        Identity::load(&node, &path("ca.pem"), (&path("node.pem"), &path("node.key")))
    }

    #[test]
    fn two_commands_make_two_nodes_of_one_authority() {
        let root = tempfile::tempdir().expect("a directory");
        assert!(make(&options(root.path(), "a", None)).expect("made").is_new_authority);
        assert!(!make(&options(root.path(), "b", Some("a"))).expect("made").is_new_authority);
        assert!(identity(root.path(), "a").is_ok() && identity(root.path(), "b").is_ok());
        let text = |path: &str| fs::read_to_string(root.path().join(path)).expect(path);
        assert_eq!(text("a/ca.pem"), text("b/ca.pem"));
        assert!(!root.path().join("b/ca.key").exists());
        for (path, mode) in [("a/ca.key", 0o600), ("b/node.key", 0o600), ("a", 0o700)] {
            let found = fs::metadata(root.path().join(path)).expect(path).permissions().mode();
            assert_eq!(found & 0o777, mode, "{path}");
        }
    }

    #[test]
    fn nothing_is_overwritten_unless_told_and_never_the_authority() {
        let root = tempfile::tempdir().expect("a directory");
        let first = options(root.path(), "a", None);
        make(&first).expect("made");
        let text = |file: &str| fs::read_to_string(root.path().join("a").join(file)).expect(file);
        let before = ["ca.key", "ca.pem", "node.key", "node.pem"].map(text);
        let refused = make(&first).err().expect("refused");
        assert!(refused.contains("node.pem is there already; --force"), "{refused}");
        assert_eq!(["ca.key", "ca.pem", "node.key", "node.pem"].map(text), before);
        make(&InitNode { force: true, ..first }).expect("made again");
        assert_eq!([text("ca.key"), text("ca.pem")], before[..2]);
        assert_ne!(text("node.pem"), before[3]);
        assert!(identity(root.path(), "a").is_ok());
    }

    #[test]
    fn an_authority_that_is_not_there_or_does_not_fit_is_told() {
        let root = tempfile::tempdir().expect("a directory");
        let missing = make(&options(root.path(), "b", Some("a"))).err().expect("refused");
        assert!(missing.contains("holds no authority's key"), "{missing}");
        make(&options(root.path(), "a", None)).expect("made");
        make(&options(root.path(), "c", None)).expect("made");
        let path = |path: &str| root.path().join(path);
        fs::copy(path("c/ca.key"), path("a/ca.key")).expect("copied");
        let mixed = make(&options(root.path(), "b", Some("a"))).err().expect("refused");
        assert!(mixed.contains("belong together"), "{mixed}");
        fs::remove_file(path("c/ca.key")).expect("removed");
        let again = InitNode { force: true, ..options(root.path(), "c", None) };
        let lost = make(&again).err().expect("refused");
        assert!(lost.contains("holds no authority's key"), "{lost}");
    }

    #[test]
    fn the_lines_are_those_of_a_configuration() {
        let root = tempfile::tempdir().expect("a directory");
        let address = Some(String::from("10.0.0.1:9443"));
        let made = make(&InitNode { address, ..options(root.path(), "a", None) }).expect("made");
        let text = format!("{}{}", own_lines(&made), shared_lines(&made));
        let file: crate::config_file::File = toml::from_str(&text).expect(&text);
        assert_eq!(file.node.name.as_deref(), Some("a"));
        assert_eq!(file.gateway[0].link.as_deref(), Some("https://10.0.0.1:9443"));
        assert!(text.contains("link = \"0.0.0.0:9443\""), "{text}");
        assert!(!talk(&made).contains("PRIVATE") && !json(&made).to_string().contains("PRIVATE"));
    }
}
