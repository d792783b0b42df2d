//! Nodes that are gateway and site at once: their files. What they can do is what the file says,
//! whatever else the machine does: their model takes no processor.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Nobody waits longer than this for what must come.
pub const SOON: Duration = Duration::from_secs(60);

/// The files of the node `name` in `root`, of one authority.
pub fn make(root: &Path, name: &str, ca: Option<&str>) {
    let mut arguments = vec!["node", "init", "--json", "--name", name];
    arguments.extend(ca.iter().flat_map(|ca| ["--ca", *ca]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    let output = command.current_dir(root).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A port that nobody else takes.
pub fn free_port() -> u16 {
    mainstay::ports::take_one().expect("a port").port()
}

/// The file of the node `me`: it is a gateway and controls the site `at-ME`, as every node of
/// `fleet` does. Nobody says what it is to be: all roles are its own by default.
pub fn file(root: &Path, me: &str, fleet: &[(&str, u16)]) -> String {
    let path = |file: &str| root.join(me).join(file).display().to_string();
    let mut text = String::from("[listen]\napi = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n");
    if fleet.len() > 1 {
        let (_, port) = fleet.iter().find(|(name, _)| *name == me).expect("it is one of them");
        text += &format!("link = \"127.0.0.1:{port}\"\n");
    }
    text += &format!(
        "[node]\nname = \"{me}\"\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
        path("ca.pem"),
        path("node.pem"),
        path("node.key"),
    );
    for (name, port) in fleet {
        if fleet.len() > 1 {
            text +=
                &format!("[[gateway]]\nname = \"{name}\"\nlink = \"https://127.0.0.1:{port}\"\n");
        }
        text += &format!(
            "[[site]]\nname = \"at-{name}\"\nnode = \"https://127.0.0.1:{port}\"\n\
             node_name = \"{name}\"\nmodels = [{{ name = \"rehearsal\" }}]\n\
             engine = {{ model = \"rehearsal\" }}\ncapacity = 16\ntokens_per_second = 800\n"
        );
    }
    let served: Vec<_> = fleet.iter().map(|(name, _)| format!("at-{name}/rehearsal")).collect();
    text += &format!("[[model]]\nname = \"chat\"\nserved_by = {served:?}\n");
    text
}
