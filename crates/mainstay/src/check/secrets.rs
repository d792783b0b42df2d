//! Secrets in plain files, and doors that stand open.

use super::finding::{Finding, Severity};
use super::scene::Scene;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Bits of a file's mode that let anybody but its owner read it.
const OTHERS_READ: u32 = 0o044;

/// Secrets in plain files, and doors that stand open; `config` is the file itself.
pub fn findings(scene: &Scene<'_>, config: Option<&Path>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, site) in scene.file.site.iter().enumerate() {
        if site.key.is_some() {
            found.push(in_the_file(scene, at, config));
        }
        if let Some(file) = &site.key_file
            && others_read(&scene.base.join(file))
        {
            let finding =
                Finding::new("MS602", Severity::Warning, scene.site_place(at, "key_file"));
            found.push(finding.saying(
                format!("others may read the key of {}", scene.site(at)),
                "Whoever has an account on this machine can spend your money there.",
                format!("chmod 600 {file}"),
            ));
        }
    }
    let listen = &scene.resolved.setup.listen;
    if !listen.admin.ip().is_loopback() && listen.admin_token.is_none() {
        let finding = Finding::new("MS603", Severity::Warning, scene.place("listen.admin"));
        found.push(finding.saying(
            format!("the admin listener is on {}", listen.admin),
            "It has no login: whoever reaches it sees what requests did and changes keys.",
            "give it a token (listen.admin_token_env), or listen on 127.0.0.1",
        ));
    }
    if scene.file.allow_anonymous == Some(true) && !listen.api.ip().is_loopback() {
        let finding = Finding::new("MS604", Severity::Warning, scene.place("allow_anonymous"));
        found.push(finding.saying(
            "anybody who reaches the API may call",
            "Strangers spend your limits and your money, and an outage of theirs is yours.",
            "mainstay keys create, and take allow_anonymous away",
        ));
    }
    found
}

fn in_the_file(scene: &Scene<'_>, at: usize, config: Option<&Path>) -> Finding {
    let name = scene.site(at);
    let read = match config.is_some_and(others_read) {
        true => "Others on this machine may read the file. ",
        false => "",
    };
    Finding::new("MS601", Severity::Warning, scene.site_place(at, "key")).saying(
        format!("the key of {name} stands in the file"),
        format!(
            "{read}It goes wherever the file goes: into backups, repositories and messages. Who \
             has it spends your money, and blocking it takes {name} down."
        ),
        "move it to a variable or a mounted secret: key_env = \"…\" or key_file = \"…\"",
    )
}

fn others_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & OTHERS_READ != 0)
}
