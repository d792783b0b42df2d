//! Reads the configuration again while the process runs.

use super::{read, read_as};
use crate::command_line::Serve;
use crate::config_file::problem::Problem;
use crate::environment::Environment;
use mainstay_server::Reader;
use mainstay_server::setup::{Listen, Setup};
use std::net::SocketAddr;

/// Reads the file of `options` again. Where a port was asked for as 0, `bound` is where the process
/// listens since it was `asked` to.
pub fn reader(options: Serve, environment: Environment, asked: Listen, bound: Listen) -> Reader {
    Reader::new(move |own, policy| {
        let mut setup = again((&options, &environment), own, policy)?;
        found(&mut setup.listen, (&asked, &bound));
        Ok(setup)
    })
}

fn again(
    process: (&Serve, &Environment),
    own: Option<&str>,
    policy: Option<&[u8]>,
) -> Result<Setup, String> {
    let policy = policy.map(std::str::from_utf8).transpose();
    let policy = policy.map_err(|_| "the policy is no text in UTF-8".to_string())?;
    let lines = |problems: Vec<Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let file = process.0.config.as_deref();
    let name = file.map_or_else(String::new, |path| path.display().to_string());
    let text = match (own, file) {
        (Some(own), _) => own.to_string(),
        (None, Some(path)) => read(path).map_err(lines)?,
        (None, None) => String::new(),
    };
    if own.is_none() && file.is_some() && text.trim().is_empty() {
        // Whoever writes a file in place empties it first.
        return Err(format!("{name}: is empty; write it whole under another name and rename it"));
    }
    let resolved = read_as(process, (&name, &text), policy).map_err(lines)?;
    let mut setup = resolved.setup;
    setup.written.warnings = resolved.warnings.iter().map(ToString::to_string).collect();
    Ok(setup)
}

/// An address that is asked for as it was at the start is the one that was found then.
fn found(listen: &mut Listen, (asked, bound): (&Listen, &Listen)) {
    let same = |now: &mut SocketAddr, then: SocketAddr, found: SocketAddr| {
        if *now == then {
            *now = found;
        }
    };
    same(&mut listen.api, asked.api, bound.api);
    same(&mut listen.admin, asked.admin, bound.admin);
    if listen.dns == asked.dns {
        listen.dns.clone_from(&bound.dns);
    }
    if listen.link == asked.link {
        listen.link = bound.link;
    }
    if listen.status == asked.status {
        listen.status = bound.status;
    }
}
