//! Who may call and how much, as this process runs it: the keyring, the limits and what is spent,
//! the operator's door to them, and what other gateways say of all three.

use crate::admin::Builder;
use crate::drive::Drive;
use crate::gateway::auth::Configured;
use crate::gateway::keyring::{Keyring, NewKey, OldKey};
use crate::gateway::limiter::{Limiter, Others};
use crate::ledger::TOLD_EVERY;
use crate::link::message::SPENT_MAX;
use crate::link::{Link, Message, NodeName};
use crate::setup::Setup;
use bytes::Bytes;
use mainstay_core::names::GatewayId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Who may call, and how much.
#[derive(Clone)]
pub(super) struct Callers {
    drive: Arc<Drive>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) limiter: Arc<Limiter>,
}

impl Callers {
    /// The keys of `setup` and those that were kept.
    pub(super) fn open(setup: &Setup, drive: &Arc<Drive>) -> Callers {
        let ring = Keyring::open(setup.data_dir.clone(), Configured::of(setup));
        let keyring = Arc::new(ring);
        let keys = keyring.clone();
        let limiter = Arc::new(Limiter::new(drive.clone(), move || keys.keys()));
        Callers { drive: drive.clone(), keyring, limiter }
    }

    /// Other gateways are reached over `link` from now on.
    pub(super) fn join(&self, link: &Link, generation: impl Fn() -> u64 + Send + Sync + 'static) {
        self.limiter.join(Others { link: link.clone(), generation: Box::new(generation) });
        let (drive, link) = (self.drive.clone(), link.clone());
        self.keyring.join(Box::new(move |to, message| {
            if let Some(to) = to {
                link.send(to, message);
                return;
            }
            let places = drive.places();
            for to in others(&places.gateways, &link) {
                link.send(to, message.clone());
            }
        }));
    }

    /// Runs until `shutdown`; `link` leads to other gateways, if there are any.
    pub(super) fn run(&self, link: Option<Link>, shutdown: &CancellationToken) {
        if let Some(link) = link.clone() {
            let (drive, ended) = (self.drive.clone(), shutdown.clone());
            tokio::spawn(async move { tell_spent(&drive, &link, ended).await });
        }
        let (limiter, ended) = (self.limiter.clone(), shutdown.clone());
        tokio::spawn(async move { limiter.run(ended).await });
        let (keyring, drive) = (self.keyring.clone(), self.drive.clone());
        let ended = shutdown.clone();
        let peers = move || {
            let places = drive.places();
            let link = link.as_ref();
            link.map_or_else(Vec::new, |link| others(&places.gateways, link).cloned().collect())
        };
        tokio::spawn(async move { keyring.run(peers, ended).await });
    }

    /// Takes what another gateway says of keys, limits and spending.
    pub(super) fn hear(&self, (peer, from): (&NodeName, Option<GatewayId>), message: Message) {
        match (message, from) {
            (Message::QuotaReport(report), Some(from)) => self.limiter.report((peer, from), report),
            (Message::QuotaGrant(grant), Some(_)) => self.limiter.granted(grant),
            (Message::KeyMarks(marks), Some(_)) => self.keyring.compare(peer, &marks),
            (Message::Keys(keys), Some(_)) => self.keyring.hear(keys),
            (Message::Spent(sums), Some(_)) => {
                if let Some(ledger) = self.drive.ledger() {
                    ledger.purse().hear(peer, sums);
                }
            }
            // Who is no gateway has no word in it.
            (_, _) => {}
        }
    }

    /// Another configuration is in force.
    pub(super) fn configure(&self, setup: &Setup) {
        self.keyring.configure(Configured::of(setup));
    }

    /// Lets the operator see and change keys.
    pub(super) fn shown(&self, admin: Builder) -> Builder {
        let [page, made, revoked, rotated] = [(); 4].map(|()| self.keyring.clone());
        admin
            .show("/-/keys", "callers' keys", move || page.page())
            .change("/-/keys/create", "make a key", move |body| made.create(wish::<NewKey>(&body)?))
            .change("/-/keys/revoke", "revoke a key", move |body| {
                revoked.revoke(&wish::<OldKey>(&body)?)
            })
            .change("/-/keys/rotate", "give a key another secret", move |body| {
                rotated.rotate(&wish::<OldKey>(&body)?)
            })
    }
}

/// Tells other gateways every second what went through this one.
async fn tell_spent(drive: &Drive, link: &Link, shutdown: CancellationToken) {
    let Some(ledger) = drive.ledger() else { return };
    let mut beat = tokio::time::interval(TOLD_EVERY);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = beat.tick() => {}
        }
        let (places, news) = (drive.places(), ledger.purse().news());
        for some in news.chunks(SPENT_MAX) {
            for to in others(&places.gateways, link) {
                link.send(to, Message::Spent(some.to_vec()));
            }
        }
    }
}

fn others<'a>(gateways: &'a [NodeName], link: &'a Link) -> impl Iterator<Item = &'a NodeName> {
    gateways.iter().filter(|name| *name != link.me())
}

/// What an operator asks for. What nobody knows is refused: it would be meant to bind somebody.
fn wish<T: Serialize + DeserializeOwned + Default>(body: &Bytes) -> Result<T, String> {
    let unread = |error| format!("cannot be read: {error}");
    let asked: Value = serde_json::from_slice(body).map_err(unread)?;
    let known = serde_json::to_value(T::default()).map_err(unread)?;
    let mut fields = asked.as_object().into_iter().flat_map(|object| object.keys());
    if let Some(unknown) = fields.find(|field| known.get(field.as_str()).is_none()) {
        let known: Vec<&str> =
            known.as_object().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
        return Err(format!("unknown field `{unknown}`; there are {}", known.join(", ")));
    }
    serde_json::from_value(asked).map_err(unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_nobody_knows_is_refused_with_those_that_are() {
        let read = |text: &'static str| wish::<NewKey>(&Bytes::from_static(text.as_bytes()));
        let new = read(r#"{"name":"a","tier":"pro","concurrency":3,"networks":["10.0.0.0/8"]}"#);
        assert_eq!(new.unwrap().terms.concurrency, Some(3));
        let told = read(r#"{"name":"a","concurency":3}"#).unwrap_err();
        assert!(told.contains("`concurency`") && told.contains("concurrency"), "{told}");
        assert!(read(r#"{"networks":["x"]}"#).unwrap_err().contains("is no network"));
        assert!(read("[").unwrap_err().contains("cannot be read"));
    }
}
