//! What went through a gateway, in money, as bytes: sums of a tenant or key.

use super::super::frame::Nonsense;
use super::super::message::{PAYER_MAX, SPENT_MAX};
use super::within;
use crate::ledger::Payer;
use mainstay_core::money::Money;
use mainstay_core::plan::Spending;
use prost::Message as Proto;

#[derive(Clone, PartialEq, Proto)]
struct Sum {
    #[prost(string, optional, tag = "1")]
    tenant: Option<String>,
    #[prost(string, optional, tag = "2")]
    key: Option<String>,
    /// Days and months since 1970.
    #[prost(uint32, tag = "3")]
    day: u32,
    #[prost(uint64, tag = "4")]
    of_day: u64,
    #[prost(uint32, tag = "5")]
    month: u32,
    #[prost(uint64, tag = "6")]
    of_month: u64,
    #[prost(uint64, tag = "7")]
    free: u64,
}

#[derive(Clone, PartialEq, Proto)]
pub(super) struct Sums {
    #[prost(message, repeated, tag = "1")]
    sums: Vec<Sum>,
}

pub(super) fn write(sums: &[(Payer, Spending)]) -> Sums {
    let amount = |money: Money| u64::try_from(money.0).unwrap_or(0);
    let sum = |(payer, spending): &(Payer, Spending)| {
        let (tenant, key) = match payer {
            Payer::Tenant(name) => (Some(String::from(&**name)), None),
            Payer::Key(name) => (None, Some(String::from(&**name))),
        };
        let Spending { day, month, free } = *spending;
        let (of_day, of_month) = (amount(day.1), amount(month.1));
        Sum { tenant, key, day: day.0, of_day, month: month.0, of_month, free: amount(free) }
    };
    Sums { sums: sums.iter().take(SPENT_MAX).map(sum).collect() }
}

pub(super) fn read(sums: Sums) -> Result<Vec<(Payer, Spending)>, Nonsense> {
    within(sums.sums.len(), SPENT_MAX)?;
    let money = |amount: u64| i64::try_from(amount).map(Money).map_err(|_| Nonsense::Malformed);
    let sum = |sum: Sum| {
        let payer = match (sum.tenant, sum.key) {
            (Some(name), None) => Payer::Tenant(name.into()),
            (None, Some(name)) => Payer::Key(name.into()),
            (_, _) => return Err(Nonsense::Malformed),
        };
        within(payer.told().1.len(), PAYER_MAX)?;
        let (day, month) = ((sum.day, money(sum.of_day)?), (sum.month, money(sum.of_month)?));
        Ok((payer, Spending { day, month, free: money(sum.free)? }))
    };
    sums.sums.into_iter().map(sum).collect()
}
