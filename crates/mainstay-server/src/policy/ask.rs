//! An order as it is asked for over the operator's door.

use super::{Wanted, parse_order};
use mainstay_core::message::Verb;
use mainstay_core::names::SiteId;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An order, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrderWish {
    /// `drain`, `undrain`, `kill`, `cap` or `freeze`.
    pub verb: String,
    /// The site's name; none for a freeze of all, and for the end of an order.
    pub site: Option<String>,
    /// Of a cap.
    pub percent: Option<u8>,
    /// The order that `undrain` ends.
    pub ends: Option<String>,
    /// Why.
    pub reason: String,
    /// For so many seconds.
    pub life_s: u64,
    /// Who.
    pub author: String,
    /// It is meant, though it takes much out.
    pub confirm: bool,
}

impl OrderWish {
    /// The same with the positions of `sites`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn wanted(self, sites: &[String]) -> Result<Wanted, String> {
        let OrderWish { verb, site, percent, ends, reason, life_s, author, confirm } = self;
        let site = match site {
            None => None,
            Some(name) => {
                let at = sites.iter().position(|site| *site == name);
                let known = || format!("no site `{name}`; there are {}", sites.join(", "));
                Some(SiteId(u16::try_from(at.ok_or_else(known)?).unwrap_or(u16::MAX)))
            }
        };
        let verb = match verb.as_str() {
            "drain" => Verb::Drain,
            "kill" => Verb::Kill,
            "freeze" => Verb::Freeze,
            "cap" => Verb::Cap(percent.ok_or("a cap needs `percent`, from 0 to 100")?),
            "undrain" => {
                let id = ends.as_deref().and_then(parse_order);
                Verb::End(id.ok_or("`ends` names no order; mainstay orders lists them")?)
            }
            other => return Err(format!("no order `{other}`; drain, undrain, kill, cap, freeze")),
        };
        let life = Duration::from_secs(life_s);
        Ok(Wanted { author, verb, site, reason, life, confirmed: confirm })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_its_site_and_what_its_verb_needs() {
        let sites = ["A", "B"].map(String::from);
        let wish = |text: &str| serde_json::from_str::<OrderWish>(text).unwrap().wanted(&sites);
        let wanted = wish(r#"{"verb":"cap","site":"B","percent":5,"reason":"x","life_s":60}"#);
        let wanted = wanted.unwrap();
        assert_eq!((wanted.verb, wanted.site), (Verb::Cap(5), Some(SiteId(1))));
        assert!(wish(r#"{"verb":"cap","site":"B"}"#).unwrap_err().contains("percent"));
        assert!(wish(r#"{"verb":"kill","site":"C"}"#).unwrap_err().contains("there are A, B"));
        assert!(wish(r#"{"verb":"undrain","ends":"x"}"#).unwrap_err().contains("names no order"));
        assert!(wish(r#"{"verb":"burn"}"#).unwrap_err().contains("no order `burn`"));
        let unknown = serde_json::from_str::<OrderWish>(r#"{"verb":"kill","siet":"A"}"#);
        assert!(unknown.unwrap_err().to_string().contains("siet"));
    }
}
