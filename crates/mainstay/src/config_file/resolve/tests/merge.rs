//! A policy and a node's own file, put together.

use super::*;
use crate::config_file::merge::Joined;

const OWN: &str = "listen.admin = \"127.0.0.1:9\"\n\
    [[site]]\nname = \"old\"\nprovider = \"openai\"\nbase_url = \"http://h/v1\"\n\
    [[site]]\nname = \"far\"\nkey = \"secret\"\ncapacity = 3\n";
const POLICY: &str = "\n[limits]\nconnect = \"3s\"\n\
    [[site]]\nname = \"far\"\nprovider = \"openai\"\nbase_url = \"http://h/v1\"\n\
    models = [{ name = \"m\" }]\n\
    [[model]]\nname = \"m\"\nserved_by = [\"far/m\"]\n";

/// What is wrong comes as the lines that are printed.
fn joined(own: &str, policy: &str) -> Result<Resolved, String> {
    let lines = |problems: Vec<Problem>| {
        problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
    };
    let environment = Environment::default();
    let joined = Joined::new(own, policy);
    let source = Source::joined("m.toml", &joined, &[]).map_err(lines)?;
    let (file, unknown) = source.read().map_err(|one| lines(vec![one]))?;
    let around = Surroundings { environment: &environment, base: Path::new("/nowhere") };
    let resolved = resolve(&source, file, &around).map_err(lines)?;
    if unknown.is_empty() { Ok(resolved) } else { Err(lines(unknown)) }
}

#[test]
fn what_a_policy_has_takes_the_place_of_the_own_file_and_the_rest_stays() {
    let resolved = joined(OWN, POLICY).expect("both are right");
    let setup = &resolved.setup;
    let sites: Vec<&str> = setup.core.sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!(sites, ["far"]);
    assert_eq!(setup.core.limits.connect, std::time::Duration::from_secs(3));
    assert_eq!(setup.listen.admin.port(), 9);
    let Upstream::Provider(provider) = &setup.upstreams[0] else { panic!("a provider") };
    assert_eq!(provider.key.as_ref().map(|key| key.reveal()), Some("secret"));
    // What a site can carry is the policy's to say, but for the node that controls it.
    assert_eq!(setup.core.sites[0].capacity, None);
    assert!(setup.written.has_policy);
    assert_ne!(setup.written.hash, joined(OWN, &format!("{POLICY}#")).unwrap().setup.written.hash);
}

#[test]
fn a_policy_says_nothing_of_one_node_and_holds_no_secret() {
    let policy = POLICY.replace("models = ", "key = \"sk\"\nmodels = ");
    let policy = format!("listen.api = \"127.0.0.1:1\"\nsites = 1\n{policy}");
    let expected = "policy:1: listen: belongs to one node; move it to the node's own file\n\
        policy:2: sites: unknown key; did you mean `site`?\n\
        policy:10: site.key: a policy goes to every node and disk and must hold no secret; use \
        key_env or key_file, or put the key into the nodes' own files";
    assert_eq!(joined(OWN, &policy).unwrap_err(), expected);
    assert_eq!(
        joined(OWN, "").unwrap_err(),
        "policy:1: site: a policy names the sites; add [[site]]"
    );
}

#[test]
fn what_is_wrong_is_named_with_its_own_file_and_line() {
    let policy = POLICY.replace("far/m", "near/m");
    let expected = "policy:11: model.served_by: no site `near` (in `near/m`); known are far";
    assert_eq!(joined(OWN, &policy).unwrap_err(), expected);
    let own = OWN.replace("127.0.0.1:9", "nine");
    let expected =
        "m.toml:1: listen.admin: `nine` is no address; write IP:PORT, e.g. 127.0.0.1:8080";
    assert_eq!(joined(&own, POLICY).unwrap_err(), expected);
    let both = joined("a = [\n", "\nb = [\n").unwrap_err();
    let places: Vec<&str> = both.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["m.toml:1:6", "policy:2:6"], "{both}");
}

#[test]
fn a_node_says_what_its_own_site_computes_with() {
    let own = "[node]\nsite = \"far\"\n[[site]]\nname = \"far\"\ncapacity = 3\n";
    let wrong = joined(own, &POLICY.replace("models", "capacity = 9\nmodels")).unwrap_err();
    // It is no node without a name; its site's capacity was taken all the same.
    assert!(wrong.contains("node.site"), "{wrong}");
    let zero = own.replace("capacity = 3", "capacity = 0");
    let wrong = joined(&zero, POLICY).unwrap_err();
    assert!(wrong.contains("m.toml:5: site.capacity: 0 would keep"), "{wrong}");
}

#[test]
fn a_policy_may_not_say_where_policies_come_from_and_breaks_only_where_that_is_allowed() {
    let refused = joined(OWN, "[policy]\nrehearse = true\n").unwrap_err();
    assert!(refused.contains("policy:1: policy: belongs to one node"), "{refused}");
    let breaks = format!("{POLICY}[rehearsal]\ndies_after = \"5m\"\n");
    let refused = joined(OWN, &breaks).unwrap_err();
    assert!(refused.contains("breaks on purpose") && refused.contains("rehearse = true"));
    let own = format!("{OWN}[policy]\nrehearse = true\n");
    let rehearsal = joined(&own, &breaks).expect("allowed").setup.rehearsal.expect("there");
    assert_eq!(rehearsal.dies_after, Some(std::time::Duration::from_secs(300)));
    assert!(joined(OWN, POLICY).expect("right").setup.rehearsal.is_none());
    let alone = joined("policy.source = \"office\"\n", POLICY).unwrap_err();
    assert!(alone.contains("policy.source") && alone.contains("node init"), "{alone}");
}
