//! Orders given, kept and written down.

use super::*;
use mainstay_core::config::Service;
use mainstay_core::cost::CostRate;
use std::path::Path;
use std::sync::Arc;

fn desk(directory: Option<&Path>) -> (Desk, Arc<Mutex<Vec<Outside>>>) {
    let sites = vec![CostRate::ZERO; 3];
    let service = Service { sites, ..Service::default() };
    let config = PolicyConfig { gateways: 2, service, ..PolicyConfig::default() };
    let names = ["A", "B", "C"].map(String::from).to_vec();
    let store = directory.map(|directory| Store::open(directory, names).unwrap());
    let said = Arc::new(Mutex::new(Vec::new()));
    let out = said.clone();
    let carrier: Carrier = Box::new(move |outside| out.lock().unwrap().push(outside));
    (Desk::open(config, (Clock::new(), store, String::from("n")), carrier).unwrap(), said)
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
    said.lock().unwrap().clear();
    let id = desk.command(drain(0)).unwrap();
    let said = said.lock().unwrap();
    assert!(said.iter().any(|s| matches!(s, Outside::InForce(orders) if orders[0].id == id)));
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
    assert!(matches!(&said.lock().unwrap()[0], Outside::InForce(orders) if orders.len() == 1));
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
