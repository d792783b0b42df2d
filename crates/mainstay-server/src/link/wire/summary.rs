//! What a gateway counted, as bytes.

use super::{Nonsense, Proto, micros, site_id, within};
use mainstay_core::message::{
    self as core, FAILING_MAX, FIRST_TOKENS, Gaps, SHORT_MAX, SUMMARY_MAX, Standing,
};
use mainstay_core::names::{ModelId, TierId};
use std::time::Duration;

#[derive(Clone, PartialEq, Proto)]
pub(super) struct Summary {
    #[prost(fixed64, tag = "1")]
    run: u64,
    #[prost(uint64, tag = "2")]
    elapsed: u64,
    #[prost(message, optional, tag = "3")]
    api: Option<Count>,
    #[prost(message, repeated, tag = "4")]
    models: Vec<Count>,
    #[prost(message, repeated, tag = "5")]
    sites: Vec<Count>,
    #[prost(message, repeated, tag = "6")]
    failing: Vec<Failing>,
    /// By class of time.
    #[prost(uint64, repeated, tag = "7")]
    gaps: Vec<u64>,
    #[prost(message, repeated, tag = "8")]
    short: Vec<Short>,
}

#[derive(Clone, PartialEq, Proto)]
struct Short {
    #[prost(uint32, tag = "1")]
    site: u32,
    #[prost(uint32, tag = "2")]
    tier: u32,
    #[prost(uint32, tag = "3")]
    refused: u32,
}

#[derive(Clone, PartialEq, Proto)]
struct Failing {
    #[prost(fixed64, tag = "1")]
    key: u64,
    #[prost(uint32, tag = "2")]
    failed: u32,
    #[prost(uint32, tag = "3")]
    all: u32,
}

#[derive(Clone, PartialEq, Proto)]
struct Count {
    /// Position of the model or site.
    #[prost(uint32, tag = "1")]
    of: u32,
    #[prost(uint64, tag = "2")]
    good: u64,
    #[prost(uint64, tag = "3")]
    failed: u64,
    /// By class of time.
    #[prost(uint64, repeated, tag = "4")]
    first_tokens: Vec<u64>,
    /// Of a site: 0 unknown, 1 up, 2 down, 3 shut.
    #[prost(uint32, tag = "5")]
    standing: u32,
}

pub(super) fn write(summary: &core::Summary) -> Summary {
    let models = summary.models.iter().take(SUMMARY_MAX);
    let sites = summary.sites.iter().take(SUMMARY_MAX).map(|(site, standing, count)| {
        let standing = match standing {
            Standing::Unknown => 0,
            Standing::Up => 1,
            Standing::Down => 2,
            Standing::Shut => 3,
        };
        Count { standing, ..write_count(site.0, count) }
    });
    Summary {
        run: summary.run,
        elapsed: micros(summary.elapsed),
        api: Some(write_count(0, &summary.api)),
        models: models.map(|(model, count)| write_count(model.0, count)).collect(),
        sites: sites.collect(),
        gaps: summary.gaps.to_vec(),
        short: summary.short.iter().take(SHORT_MAX).map(write_short).collect(),
        failing: summary.failing.iter().take(FAILING_MAX).map(write_failing).collect(),
    }
}

pub(super) fn read(summary: &Summary) -> Result<core::Summary, Nonsense> {
    within(summary.models.len(), SUMMARY_MAX)?;
    within(summary.sites.len(), SUMMARY_MAX)?;
    within(summary.failing.len(), FAILING_MAX)?;
    within(summary.short.len(), SHORT_MAX)?;
    let mut gaps = Gaps::default();
    within(summary.gaps.len(), gaps.len())?;
    gaps.iter_mut().zip(&summary.gaps).for_each(|(to, from)| *to = *from);
    let model = |count: &Count| {
        let model = u16::try_from(count.of).map(ModelId).map_err(|_| Nonsense::Malformed)?;
        Ok((model, read_count(count)?))
    };
    let site = |count: &Count| {
        let standing = match count.standing {
            0 => Standing::Unknown,
            1 => Standing::Up,
            2 => Standing::Down,
            3 => Standing::Shut,
            _ => return Err(Nonsense::Malformed),
        };
        Ok((site_id(count.of)?, standing, read_count(count)?))
    };
    let api = summary.api.as_ref().map(read_count).transpose()?;
    Ok(core::Summary {
        run: summary.run,
        elapsed: Duration::from_micros(summary.elapsed),
        api: api.unwrap_or_default(),
        models: summary.models.iter().map(model).collect::<Result<_, Nonsense>>()?,
        sites: summary.sites.iter().map(site).collect::<Result<_, Nonsense>>()?,
        gaps,
        short: summary.short.iter().map(read_short).collect::<Result<_, Nonsense>>()?,
        failing: summary.failing.iter().map(read_failing).collect(),
    })
}

fn write_short(each: &core::Short) -> Short {
    let (site, tier) = (each.site.0.into(), each.tier.0.into());
    Short { site, tier, refused: each.refused.into() }
}

fn read_short(each: &Short) -> Result<core::Short, Nonsense> {
    let tier = u8::try_from(each.tier).map(TierId).map_err(|_| Nonsense::Malformed)?;
    let refused = u16::try_from(each.refused).map_err(|_| Nonsense::Malformed)?;
    Ok(core::Short { site: site_id(each.site)?, tier, refused })
}

fn write_failing(each: &core::Failing) -> Failing {
    Failing { key: each.key, failed: each.failed, all: each.all }
}

fn read_failing(each: &Failing) -> core::Failing {
    core::Failing { key: each.key, failed: each.failed, all: each.all }
}

fn write_count(of: u16, count: &core::Count) -> Count {
    let (good, failed, first_tokens) = (count.good, count.failed, count.first_tokens.to_vec());
    Count { of: of.into(), good, failed, first_tokens, standing: 0 }
}

fn read_count(count: &Count) -> Result<core::Count, Nonsense> {
    within(count.first_tokens.len(), FIRST_TOKENS)?;
    let mut first_tokens = [0; FIRST_TOKENS];
    first_tokens.iter_mut().zip(&count.first_tokens).for_each(|(to, from)| *to = *from);
    Ok(core::Count { good: count.good, failed: count.failed, first_tokens })
}
