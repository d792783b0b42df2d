//! What a running process cannot change: what it listens on, who it is, where it keeps things.

use crate::setup::{Node, Setup};
use std::fmt::Debug;

/// Refuses `new` where it changes what stays as it is in `now` until a restart; all of it at once.
pub(super) fn check(now: &Setup, new: &Setup) -> Result<(), String> {
    let mut lines = Vec::new();
    let mut same = |key: &str, is_same: bool, what: String| {
        if !is_same {
            let place = new.written.place(key);
            lines.push(format!("{place}: {key}: {what}; restart to change it, or put it back"));
        }
    };
    let (was, is) = (&now.listen, &new.listen);
    for (key, was, is) in [("listen.api", was.api, is.api), ("listen.admin", was.admin, is.admin)] {
        same(key, was == is, differs("a running process listens on", was, is));
    }
    let what = "the token is read at the start".to_string();
    same("listen.admin_token_env", was.admin_token == is.admin_token, what);
    let listens = "a running process listens on";
    same("listen.link", was.link == is.link, differs(listens, was.link, is.link));
    same("listen.status", was.status == is.status, differs(listens, was.status, is.status));
    same("listen.dns", was.dns == is.dns, differs(listens, &was.dns, &is.dns));
    let what = "certificates of the API are read at the start".to_string();
    same("listen.tls_cert", was.tls == is.tls, what);
    let what = "the log is opened at the start".to_string();
    same("log", now.log == new.log, what);
    let what = differs("running answers are let finish for", now.drain, new.drain);
    same("limits.drain", now.drain == new.drain, what);
    let (was, is) = (now.bounds.connections, new.bounds.connections);
    same("limits.connections", was == is, differs("room is made at the start for", was, is));
    let what = differs("this process keeps things in", &now.data_dir, &new.data_dir);
    same("node.data_dir", now.data_dir == new.data_dir, what);
    let what = "the ledger is opened at the start".to_string();
    same("ledger", now.ledger == new.ledger, what);
    names(now, new, &mut same);
    node(now, new, &mut same);
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

/// This node's certificate is read at the start alone: the links have it.
pub(super) fn keep_identity(now: &Setup, new: &mut Setup) {
    if let (Some(now), Some(new)) = (&now.node, &mut new.node) {
        new.identity = now.identity.clone();
    }
}

type Same<'a> = dyn FnMut(&str, bool, String) + 'a;

fn names(now: &Setup, new: &Setup, same: &mut Same<'_>) {
    let is_same = now.dns.is_some() == new.dns.is_some();
    same("dns", is_same, "names are answered from the start on, or not".to_string());
    if let (Some(was), Some(is)) = (&now.dns, &new.dns) {
        let what = differs("the last answers are kept in", &was.kept, &is.kept);
        same("dns.kept_file", was.kept == is.kept, what);
    }
}

fn node(now: &Setup, new: &Setup, same: &mut Same<'_>) {
    let (Some(was), Some(is)) = (&now.node, &new.node) else {
        let what = "a process is one of several nodes from the start on, or not".to_string();
        return same("node", now.node.is_some() == new.node.is_some(), what);
    };
    let (name, other) = (was.identity.name(), is.identity.name());
    same("node.name", name == other, format!("this process is `{name}`, not `{other}`"));
    same("node.roles", was.roles == is.roles, "roles begin with the process".to_string());
    let origin = |node: &Node| node.policy.as_ref().map(|source| source.node.to_string());
    let what = differs("this process takes policy from", origin(was), origin(is));
    same("policy.source", origin(was) == origin(is), what);
    let taste = |node: &Node| node.policy.as_ref().map(|source| source.taste);
    let what = "what trying a policy may take is set at the start".to_string();
    same("policy.taste_time", taste(was) == taste(is), what);
    let site = |setup: &Setup, at: Option<usize>| {
        at.and_then(|at| setup.core.sites.get(at)).map(|site| site.name.clone())
    };
    let (was, is) = (site(now, was.site), site(new, is.site));
    same("node.site", was == is, differs("this process controls", was, is));
}

fn differs(what: &str, was: impl Debug, is: impl Debug) -> String {
    format!("{what} {was:?}, not {is:?}")
}
