//! Where generations of policy come from: a node that is known and reached, and which one it is.

use super::Resolver;
use crate::config_file::node::Role;
use mainstay_core::config::PolicyConfig;
use mainstay_core::policy::{TASTE_MEMORY, TASTE_TIME};
use mainstay_server::link::{NodeName, Peer};
use mainstay_server::policy::rehearsal::Rehearsal;
use mainstay_server::setup::{Source, Times};

/// Somewhat less than the machine waits for a sacrificial process.
const TASTE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(50);

impl Resolver<'_> {
    /// The source, which is added to `peers` if it is another node that they lack.
    pub(super) fn policy(&mut self, me: &NodeName, peers: &mut Vec<Peer>) -> Option<Source> {
        let file = self.file.policy.clone();
        let lists_role = self.file.node.roles.as_ref();
        let has_role = lists_role.is_some_and(|roles| roles.contains(&Role::Policy));
        let lacks_role = lists_role.is_some_and(|roles| !roles.contains(&Role::Policy));
        let link = file.link.as_ref().and_then(|text| self.node_url("policy.link", text));
        let rehearses = self.times();
        let taste = self.taste();
        let Some(name) = &file.source else {
            if has_role {
                let what = format!(
                    "has the role `policy`, and no node publishes; add source = \"{me}\" to \
                     [policy], here and at the other nodes, or leave the role out"
                );
                self.wrong("node.roles", what);
            }
            if file.link.is_some() {
                self.wrong("policy.link", "means nothing without `source`; add it");
            }
            return None;
        };
        let node = match NodeName::new(name) {
            Ok(node) => node,
            Err(what) => {
                self.wrong("policy.source", what);
                return None;
            }
        };
        if node == *me {
            if lacks_role {
                let what = "this node publishes; add \"policy\" to its node.roles";
                self.wrong("policy.source", what);
            }
            if self.file.node.data_dir.is_none() {
                let what = "this node publishes and must keep what it does; add data_dir to [node]";
                self.wrong("policy.source", what);
            }
        } else {
            if has_role {
                let what = format!("has the role `policy`, but `{node}` publishes; leave it out");
                self.wrong("node.roles", what);
            }
            self.reach(&node, link, peers);
        }
        Some(Source { node, taste, rehearses })
    }

    /// How the content breaks on purpose, if it does and may.
    pub(super) fn rehearsal(&mut self) -> Option<Rehearsal> {
        let file = self.file.rehearsal.clone()?;
        if self.file.policy.rehearse != Some(true) {
            let what = "breaks on purpose, which this node does not allow; take it away, or add \
                        rehearse = true to [policy] of the node's own file";
            self.wrong("rehearsal", what);
            return None;
        }
        Some(Rehearsal { dies: file.dies, dies_after: file.dies_after.map(|after| after.0) })
    }

    fn reach(&mut self, node: &NodeName, link: Option<String>, peers: &mut Vec<Peer>) {
        match peers.iter_mut().find(|peer| peer.name == *node) {
            Some(peer) => match (&peer.address, link) {
                (None, link) => peer.address = link,
                (Some(known), Some(link)) if *known != link => {
                    let what = format!(
                        "`{node}` is at {link} here and at {known} elsewhere; a node has one \
                         address"
                    );
                    self.wrong("policy.link", what);
                }
                (Some(_), _) => {}
            },
            None if link.is_none() && self.file.policy.link.is_none() => {
                let what = format!("no [[gateway]] or [[site]] says where `{node}` is; add link");
                self.wrong("policy.source", what);
            }
            None => peers.push(Peer { name: node.clone(), address: link }),
        }
    }

    fn taste(&mut self) -> (u64, std::time::Duration) {
        let file = self.file.policy.clone();
        if file.taste_time.is_some_and(|time| time.0.as_secs() == 0) {
            self.wrong("policy.taste_time", "is too short for anything; write at least 1s");
        }
        if file.taste_time.is_some_and(|time| time.0 > TASTE_TIME_MAX) {
            let what = "is longer than a node waits before it takes the policy for deadly; write \
                        50s or less";
            self.wrong("policy.taste_time", what);
        }
        let memory = file.taste_memory.and_then(|size| u64::try_from(size.0).ok());
        let time = file.taste_time.map_or(TASTE_TIME, |time| time.0);
        (memory.unwrap_or(TASTE_MEMORY), time)
    }

    fn times(&mut self) -> Option<Times> {
        let file = self.file.policy.clone();
        let may = file.rehearse == Some(true);
        let usual = PolicyConfig::default();
        for (key, there) in
            [("policy.poll", file.poll), ("policy.canary", file.canary), ("policy.soak", file.soak)]
        {
            if there.is_some() && !may {
                let what = "is for rehearsals; take it away, or add rehearse = true";
                self.wrong(key, what);
            }
        }
        if file.poll.is_some_and(|poll| poll.0.is_zero()) {
            self.wrong("policy.poll", "must be longer than 0");
        }
        may.then(|| Times {
            poll: file.poll.map_or(usual.poll, |time| time.0),
            canary: file.canary.map_or(usual.canary, |time| time.0),
            soak: file.soak.map_or(usual.soak, |time| time.0),
        })
    }
}
