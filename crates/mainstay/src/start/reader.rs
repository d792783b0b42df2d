//! Reads the configuration again while the process runs.

use super::merge;
use crate::command_line::Serve;
use crate::environment::Environment;
use mainstay_server::Reader;
use mainstay_server::setup::{Listen, Setup};
use std::net::SocketAddr;
use std::sync::Arc;

/// Reads the file of `options` again. Where a port was asked for as 0, `bound` is where the process
/// listens since it was `asked` to.
pub fn reader(options: Serve, environment: Environment, asked: Listen, bound: Listen) -> Reader {
    Arc::new(move |policy| read(&options, &environment, policy, (&asked, &bound)))
}

fn read(
    options: &Serve,
    environment: &Environment,
    policy: Option<&[u8]>,
    listen: (&Listen, &Listen),
) -> Result<Setup, String> {
    let policy = policy.map(std::str::from_utf8).transpose();
    let policy = policy.map_err(|_| "the policy is no text in UTF-8".to_string())?;
    let resolved = merge(options, environment, policy).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let mut setup = resolved.setup;
    setup.written.warnings = resolved.warnings.iter().map(ToString::to_string).collect();
    found(&mut setup.listen, listen);
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
}
