//! What a node's positions are called, as bytes.

use super::{Nonsense, Proto, read, site_id, within};
use crate::link::book::Book;
use crate::link::name::NodeName;
use bytes::Bytes;
use mainstay_core::message::TIERS_MAX;
use mainstay_core::names::SiteId;

/// Most names of one sort: positions are 16 bits wide.
const NAMES_MAX: usize = u16::MAX as usize;

/// What a node's positions are called, in their order.
#[derive(Clone, PartialEq, Proto)]
struct Names {
    #[prost(string, repeated, tag = "1")]
    sites: Vec<String>,
    /// The target's site, by position, and the model's name there.
    #[prost(uint32, repeated, tag = "2")]
    target_sites: Vec<u32>,
    #[prost(string, repeated, tag = "3")]
    target_models: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    gateways: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    tiers: Vec<String>,
    /// Which node controls the site of the same position; empty where none does.
    #[prost(string, repeated, tag = "6")]
    nodes: Vec<String>,
    /// The models that clients ask for.
    #[prost(string, repeated, tag = "7")]
    models: Vec<String>,
}

/// What a node's positions are called.
pub(in crate::link) fn encode_names(book: &Book) -> Vec<u8> {
    let (target_sites, target_models) =
        book.targets.iter().map(|(site, model)| (u32::from(site.0), model.clone())).unzip();
    let node = |at: u16| book.nodes.get(&at).map(NodeName::to_string).unwrap_or_default();
    let nodes = (0..=u16::MAX).take(book.sites.len()).map(node);
    Names {
        sites: book.sites.clone(),
        target_sites,
        target_models,
        gateways: book.gateways.clone(),
        tiers: book.tiers.clone(),
        nodes: nodes.collect(),
        models: book.models.clone(),
    }
    .encode_to_vec()
}

/// What a peer's positions are called. Its `home` is nobody's business.
pub(in crate::link) fn decode_names(body: Vec<u8>) -> Result<Book, Nonsense> {
    let names: Names = read(Bytes::from(body))?;
    let Names { sites, target_sites, target_models, gateways, tiers, nodes, models } = names;
    for all in [&sites, &target_models, &gateways, &nodes, &models] {
        within(all.len(), NAMES_MAX)?;
    }
    within(tiers.len(), TIERS_MAX)?;
    if target_sites.len() != target_models.len() {
        return Err(Nonsense::Malformed);
    }
    let sites_of: Vec<SiteId> =
        target_sites.into_iter().map(site_id).collect::<Result<_, Nonsense>>()?;
    if sites_of.iter().any(|site| usize::from(site.0) >= sites.len()) {
        return Err(Nonsense::Malformed);
    }
    let targets = sites_of.into_iter().zip(target_models).collect();
    let named = |(at, name): (u16, String)| NodeName::new(&name).ok().map(|name| (at, name));
    let nodes = (0..=u16::MAX).zip(nodes).filter_map(named).collect();
    Ok(Book { sites, targets, models, gateways, tiers, nodes, home: None })
}
