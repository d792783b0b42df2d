//! What is done with each message of a peer: obeyed, dropped, or reason to cut it off. No sockets
//! here, so that every byte sequence can be tried.

use super::book::Book;
use super::desk::Tongue;
use super::frame::{Kind, Nonsense, Whole};
use super::message::Message;
use super::name::NodeName;
use super::wire;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A message to deliver.
    Message(Message),
    /// Nothing that concerns anyone but the link.
    Nothing,
    /// Something that only later versions know.
    Unknown,
    /// Something that this peer has no part to say by our policy, but has by its own.
    NotTheirs,
    /// A policy that was not asked for on this connection.
    Unasked,
}

/// Reads one message of `peer`. `polled` takes note that we asked for the policy, once.
pub(super) fn hear(
    whole: Whole,
    peer: &NodeName,
    ours: &Book,
    tongue: &mut Tongue,
    polled: impl FnOnce() -> bool,
) -> Result<Heard, Nonsense> {
    let (kind, body) = match whole {
        Whole::Message(kind, body) => (kind, body),
        Whole::Unknown => return Ok(Heard::Unknown),
    };
    match kind {
        Kind::Hello => return Err(Nonsense::Unexpected),
        Kind::Beat => return Ok(Heard::Nothing),
        Kind::Names => {
            tongue.learn(wire::decode_names(body)?);
            return Ok(Heard::Nothing);
        }
        Kind::Report | Kind::Grant | Kind::Digest => {}
        Kind::QuotaReport | Kind::QuotaGrant | Kind::Snapshot => {}
        Kind::KeyMarks | Kind::Keys | Kind::Spent => {}
        Kind::Order | Kind::Orders | Kind::Fetch | Kind::Poll | Kind::Summary => {}
    }
    // Who has not said what its positions are called cannot be understood.
    let theirs = tongue.theirs.as_ref().ok_or(Nonsense::Unexpected)?;
    let message = wire::decode(kind, body)?;
    if !may_say(kind, peer, ours) {
        // While a generation of policy is on its way, nodes run different ones for minutes. A peer
        // that has this part by its own is early, not broken; it is not obeyed either way.
        return match may_say(kind, peer, theirs) {
            true => Ok(Heard::NotTheirs),
            false => Err(Nonsense::Direction),
        };
    }
    if kind == Kind::Snapshot && !polled() {
        // It may answer what was asked on the connection before this one.
        return Ok(Heard::Unasked);
    }
    Ok(Heard::Message(message))
}

/// Whether `peer` has the part in which one says this, by the policy of `book`.
pub(super) fn may_say(kind: Kind, peer: &NodeName, book: &Book) -> bool {
    match kind {
        Kind::Report
        | Kind::Digest
        | Kind::QuotaReport
        | Kind::QuotaGrant
        | Kind::Summary
        | Kind::KeyMarks
        | Kind::Keys
        | Kind::Spent => book.gateway(peer).is_some(),
        Kind::Grant => book.is_site(peer),
        Kind::Order | Kind::Orders | Kind::Fetch | Kind::Poll | Kind::Snapshot => true,
        Kind::Hello | Kind::Names | Kind::Beat => true,
    }
}

/// The newest version that two nodes speak, each from the first to the second number.
pub(super) fn agree(ours: (u16, u16), theirs: (u16, u16)) -> Result<u16, Nonsense> {
    let newest = ours.1.min(theirs.1);
    match newest >= ours.0.max(theirs.0) {
        true => Ok(newest),
        false => Err(Nonsense::Version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_versions_agree_and_distant_ones_do_not() {
        assert_eq!(agree((1, 2), (1, 2)), Ok(2));
        assert_eq!(agree((1, 2), (2, 3)), Ok(2));
        assert_eq!(agree((1, 2), (0, 1)), Ok(1));
        assert_eq!(agree((1, 2), (3, 4)), Err(Nonsense::Version));
        assert_eq!(agree((3, 4), (1, 2)), Err(Nonsense::Version));
        assert_eq!(agree((1, 2), (2, 1)), Err(Nonsense::Version), "an empty range");
    }
}
