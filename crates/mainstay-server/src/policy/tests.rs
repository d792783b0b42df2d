//! Orders given, kept and written down.

use super::*;
use mainstay_core::config::Service;
use mainstay_core::cost::CostRate;
use mainstay_core::policy::Saved;
use mainstay_core::policy::disk::Disk;
use publish::{Check, Wish};
use std::path::Path;
use std::sync::Arc;

/// What was said, and which contents were put in force.
#[derive(Default)]
struct Heard {
    said: Mutex<Vec<Outside>>,
    adopted: Mutex<Vec<Option<Vec<u8>>>>,
}

/// A desk of one gateway of so many, with what `directory` keeps; contents that say `unfit` cannot
/// be put in force.
fn open(directory: Option<&Path>, gateways: u16) -> (Desk, Arc<Heard>) {
    let sites = vec![CostRate::ZERO; 3];
    let service = Service { sites, ..Service::default() };
    let config = PolicyConfig { gateways, service, ..PolicyConfig::default() };
    let sites = ["A", "B", "C"].map(String::from).to_vec();
    let names = Names { sites: sites.clone(), gateways: vec!["n".into(), "m".into()] };
    let store = directory.map(|directory| Store::open(directory, sites).unwrap());
    let mut journal = Journal::open(directory).unwrap();
    let (mut disk, mut ago) = journal.read();
    disk.give(Snapshot::default());
    if let Some(store) = &store {
        (disk.orders, ago) = store.read().unwrap();
    }
    let (clock, mut actions) = (Clock::new(), Vec::new());
    let saved = Saved { disk: Disk { is_running: false, ..disk }, ago };
    let machine = Policy::boot(config, saved, clock.now(), 1, &mut actions);
    actions.retain(|action| !matches!(action, Action::Adopt(_)));
    let stage = Stage::default();
    let begun = Begun { machine, actions, journal, orders: store, stage, clock, names };
    let heard = Arc::new(Heard::default());
    let (out, adopted) = (heard.clone(), heard.clone());
    let around = Around {
        carrier: Box::new(move |outside| out.said.lock().unwrap().push(outside)),
        adopt: Box::new(move |content| {
            adopted.adopted.lock().unwrap().push(content.map(<[u8]>::to_vec));
            match content {
                Some(b"unfit") => Err("it is unfit".into()),
                _ => Ok(()),
            }
        }),
        asked: Box::new(Vec::new),
        own: Box::new(|| Secret::new("")),
        table: Table { config: None, memory: 1 << 30, time: Duration::from_secs(1) },
        source: directory.map(|directory| Source::open(directory).unwrap()),
        source_name: Some("n".into()),
        node: "n".into(),
    };
    (Desk::open(begun, around), heard)
}

fn desk(directory: Option<&Path>) -> (Desk, Arc<Heard>) {
    open(directory, 2)
}

fn drain(site: u16) -> Wanted {
    Wanted {
        author: "anna".into(),
        verb: Verb::Drain,
        site: Some(SiteId(site)),
        reason: "maintenance".into(),
        life: Duration::from_secs(3600),
        confirmed: false,
    }
}

#[test]
fn an_order_is_told_to_the_gateway_the_sites_and_a_peer() {
    let (desk, said) = desk(None);
    said.said.lock().unwrap().clear();
    let id = desk.command(drain(0)).unwrap();
    let said = said.said.lock().unwrap();
    assert!(said.iter().any(|s| matches!(s, Outside::InForce(orders, _) if orders[0].id == id)));
    assert!(said.iter().any(|s| matches!(s, Outside::Sites(orders) if orders.len() == 1)));
    assert!(said.iter().any(|s| matches!(s, Outside::Forward(GatewayId(1), _))));
}

#[test]
fn what_is_refused_says_what_to_do() {
    let (desk, _) = desk(None);
    desk.command(drain(0)).unwrap();
    assert!(desk.command(drain(1)).unwrap_err().contains("--confirm"));
    let lasting = Wanted { life: Duration::from_secs(90_000), ..drain(0) };
    assert!(desk.command(lasting).unwrap_err().contains("within a day"));
    let silent = Wanted { reason: String::new(), ..drain(0) };
    assert!(desk.command(silent).unwrap_err().contains("--reason"));
    assert!(desk.command(Wanted { site: None, ..drain(0) }).unwrap_err().contains("name a site"));
    assert!(desk.command(drain(9)).unwrap_err().contains("no such site"));
}

#[test]
fn orders_outlive_the_process_and_their_end_does_too() {
    let directory = tempfile::tempdir().unwrap();
    let id = desk(Some(directory.path())).0.command(drain(2)).unwrap();
    let (again, said) = desk(Some(directory.path()));
    assert_eq!(again.in_force()[0].id, id);
    assert!(
        matches!(&said.said.lock().unwrap()[0], Outside::InForce(orders, _) if orders.len() == 1)
    );
    let end = Wanted { verb: Verb::End(id), site: None, ..drain(0) };
    again.command(end).unwrap();
    assert!(again.in_force().is_empty());
    assert!(desk(Some(directory.path())).0.in_force().is_empty());
}

#[test]
fn the_log_tells_a_line_that_was_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (desk, _) = desk(Some(directory.path()));
    desk.command(drain(0)).unwrap();
    desk.command(drain(1)).unwrap_err();
    let log = std::fs::read_to_string(directory.path().join("orders.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    let second: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    let first: String =
        Sha256::digest(lines[0].as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(second["before"], first);
}

#[test]
fn names_of_orders_are_read_as_they_are_written() {
    let id = OrderId { author: 0xabc, seq: 7 };
    assert_eq!(parse_order(&format_order(id)), Some(id));
    assert_eq!(parse_order("x-1"), None);
}

/// Publishes a content and lets the machine believe that it tasted well.
fn taken(desk: &Desk, content: &'static str) {
    let wish = Wish { content: Some(content.into()), reason: "a test".into(), ..Wish::default() };
    let check: Check = Box::new(|_| Ok(()));
    desk.publish(wish, &check).unwrap();
    desk.offered(desk.newest().unwrap());
    desk.tell(Event::Tasted { content: hash(content.as_bytes()), taste: Taste::Good });
}

#[tokio::test]
async fn a_generation_is_on_disk_before_it_is_put_in_force_and_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let (lone, heard) = open(Some(directory.path()), 1);
    taken(&lone, "one");
    assert_eq!(*heard.adopted.lock().unwrap(), [Some(b"one".to_vec())]);
    assert_eq!(lone.page()["in_force"]["generation"], 1);
    lone.close();
    let (again, _) = open(Some(directory.path()), 1);
    let page = again.page();
    assert_eq!(page["in_force"]["generation"], 1, "{page}");
    assert_eq!(again.keep_by().journal.content(hash(b"one")).unwrap(), "one");
}

#[tokio::test]
async fn what_cannot_be_put_in_force_is_left_for_the_own_file_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (lone, heard) = open(Some(directory.path()), 1);
    taken(&lone, "unfit");
    assert_eq!(*heard.adopted.lock().unwrap(), [Some(b"unfit".to_vec()), None]);
    let page = lone.page();
    assert_eq!(page["in_force"]["generation"], 0, "{page}");
    assert_eq!(page["quarantine"][0], kept::Hash(hash(b"unfit")).to_string());
    let lines = lone.exposition();
    assert!(lines.contains("mainstay_policy_rollbacks_total 1\n"), "{lines}");
}

#[tokio::test]
async fn what_comes_in_turn_while_the_process_stops_is_the_next_one_s_and_no_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (lone, heard) = open(Some(directory.path()), 1);
    lone.close();
    // Here it could not be put in force any more, as a process that stops cannot.
    taken(&lone, "unfit");
    assert!(heard.adopted.lock().unwrap().is_empty());
    let (again, _) = open(Some(directory.path()), 1);
    let page = again.page();
    assert_eq!(page["in_force"]["generation"], 1, "{page}");
    assert_eq!(page["quarantine"], serde_json::json!([]), "{page}");
}

#[tokio::test]
async fn a_content_with_another_hash_than_it_says_is_not_looked_at() {
    let (lone, _) = open(None, 1);
    let snapshot = Snapshot { generation: 1, content: 5, ..Snapshot::default() };
    lone.offered(Generation { snapshot, content: Bytes::from_static(b"x") });
    assert!(lone.page()["staged"].is_null());
}

#[test]
fn a_wish_that_cannot_be_published_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let (lone, _) = open(Some(directory.path()), 1);
    let check: Check = Box::new(|content| match content {
        b"bad" => Err("policy:1: it is bad".into()),
        _ => Ok(()),
    });
    let of = |content: &str| Wish {
        content: Some(content.into()),
        reason: "a test".into(),
        ..Wish::default()
    };
    let refused = |wish: Wish| lone.publish(wish, &check).unwrap_err();
    assert!(refused(of("bad")).contains("policy:1"));
    assert!(refused(Wish { force: true, ..of("bad") }).contains("policy:1"), "no unguarded way");
    assert!(refused(Wish { force: true, ..of(&"x".repeat(5 << 20)) }).contains("too many"));
    assert!(refused(Wish { back: true, content: None, ..of("") }).contains("nothing"));
    assert!(refused(Wish::default()).contains("either"));
    let (other, _) = open(None, 1);
    let refused = other.publish(of("good"), &check).unwrap_err();
    assert!(refused.contains("at node `n`"), "{refused}");
}

#[test]
fn orders_follow_their_sites_when_others_are_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let (desk, said) = desk(Some(directory.path()));
    desk.command(drain(2)).unwrap();
    said.said.lock().unwrap().clear();
    let sites = vec![CostRate::ZERO; 2];
    let service = Service { sites, ..Service::default() };
    let config = PolicyConfig { gateways: 2, service, ..PolicyConfig::default() };
    let names = Names { sites: vec!["C".into(), "A".into()], gateways: Vec::new() };
    desk.configure(config, names);
    assert_eq!(desk.in_force()[0].site, Some(SiteId(0)));
    // The gateway, which had them first, may have passed over what was told in positions of before.
    assert!(said.said.lock().unwrap().iter().any(|said| match said {
        Outside::InForce(orders, names) =>
            orders[0].site == Some(SiteId(0)) && names.sites == ["C", "A"],
        _ => false,
    }));
    let kept = std::fs::read_to_string(directory.path().join("orders.json")).unwrap();
    assert!(kept.contains("\"site\":\"C\""), "{kept}");
}
