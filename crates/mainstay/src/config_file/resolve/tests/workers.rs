//! Inference servers behind a site of ours, and what can be wrong with them.

use super::nodes::{A, at, fleet};
use super::*;
use mainstay_server::setup::{Kubernetes, NodeSite, Outside, Place, Upstream, Workers};
use mainstay_server::site::engine::Engine;

const SITE: &str = "[[site]]\nname = \"here\"\nnode = \"https://10.0.0.2:8443\"\n\
                    node_name = \"a\"\nmodels = [{ name = \"m\" }, { name = \"n\" }]\n";

fn workers(lines: &str) -> String {
    format!("[listen]\nlink = \"127.0.0.1:8443\"\n{A}{SITE}{lines}")
}

fn outside(text: &str) -> Vec<Outside> {
    let root = fleet();
    let setup = at(root.path(), &workers(text)).expect("right").setup;
    match setup.upstreams.into_iter().next() {
        Some(Upstream::Node(NodeSite { workers: Some(Workers::Outside(all)), .. })) => all,
        other => panic!("{other:?}"),
    }
}

#[test]
fn workers_stand_at_an_address_behind_a_name_or_in_pods() {
    let all = outside(
        "[[site.worker]]\nengine = \"vllm\"\naddress = \"http://10.0.0.5:8000/\"\nserves = \"m\"\n\
         model = \"org/m\"\nsequences = 256\ntokens_per_second = 2000\n\
         [[site.worker]]\nengine = \"sglang\"\ndns = \"w.internal:30000\"\nserves = \"n\"\n\
         resolver = \"10.0.0.53\"\n\
         [[site.worker]]\nengine = \"llama.cpp\"\nserves = \"m\"\n\
         kubernetes = { selector = \"app=x\", namespace = \"y\", port = 80, api = \"http://a\" }\n",
    );
    let first = Outside {
        engine: Engine::Vllm,
        place: Place::Address("http://10.0.0.5:8000".into()),
        serves: "m".into(),
        model: "org/m".into(),
        sequences: Some(256),
        tokens_per_second: Some(2000),
        profile: None,
        key: None,
    };
    assert_eq!(all[0], first);
    let resolver = "10.0.0.53:53".parse().ok();
    assert_eq!(all[1].place, Place::Dns { host: "w.internal".into(), port: 30_000, resolver });
    assert_eq!((all[1].model.as_str(), all[1].sequences), ("n", None));
    let pods = Kubernetes {
        selector: "app=x".into(),
        namespace: "y".into(),
        port: 80,
        api: "http://a".into(),
        token_file: None,
        ca_file: None,
    };
    assert_eq!(all[2].place, Place::Kubernetes(pods));
}

#[test]
fn a_worker_is_one_that_is_known_or_what_its_steps_take() {
    let one = |profile: &str| {
        let worker =
            "[[site.worker]]\nengine = \"vllm\"\naddress = \"http://h:1\"\nserves = \"m\"\n";
        outside(&format!("{worker}profile = {profile}\n"))[0].profile
    };
    let known = one("\"llama-70b-h100-tp8\"").expect("a profile");
    assert_eq!((known.base, known.token, known.floor, known.chunk), (9.0, 0.0425, 14.5, 2048));
    assert_eq!(known.blocks, 1_300_000 / 512);
    let said = one("{ base = 3, token = 0.5, context = 1e-4, chunk = 512 }").expect("a profile");
    assert_eq!((said.base, said.floor, said.token, said.pair), (3.0, 3.0, 0.5, 0.0));
    assert_eq!((said.context, said.chunk, said.blocks), (1e-4, 512, u32::MAX));
}

#[test]
fn what_is_wrong_with_a_worker_is_told_with_how_to_mend_it() {
    let root = fleet();
    let cases = [
        (
            "address = \"http://h:1\"\nserves = \"m\"\n",
            "mainstay.toml:12: site `here` worker 1 does not say which server it is; add engine = \
             one of `vllm`, `sglang`, `llama.cpp`, `openai`",
        ),
        ("engine = \"vlm\"\nserves = \"m\"\naddress = \"http://h:1\"\n", "did you mean `vllm`?"),
        ("engine = \"vllm\"\nserves = \"m\"\n", "is nowhere; add address"),
        ("engine = \"vllm\"\nadress = \"http://h:1\"\n", "did you mean `address`?"),
        ("kubernetes = { selektor = \"a=b\" }\n", "did you mean `selector`?"),
        ("engine = \"vllm\"\naddress = \"http://h:1\"\n", "add serves = one of `m`, `n`"),
        ("engine = \"vllm\"\naddress = \"http://h:1\"\nserves = \"x\"\n", "no model `x`"),
        ("engine = \"vllm\"\naddress = \"http://h:1/v1\"\nserves = \"m\"\n", "leave out /v1"),
        ("engine = \"vllm\"\naddress = \"h:1\"\nserves = \"m\"\n", "does not begin with http://"),
        ("engine = \"vllm\"\ndns = \"h\"\nserves = \"m\"\n", "write it like workers.internal:8000"),
        (
            "engine = \"vllm\"\ndns = \"h:1\"\naddress = \"http://h:1\"\nserves = \"m\"\n",
            "leave one of `address`, `dns` and `kubernetes`",
        ),
        (
            "engine = \"vllm\"\nserves = \"m\"\nkubernetes = { selector = \"a=b\", port = 1 }\n",
            "add namespace",
        ),
        (
            "engine = \"vllm\"\nserves = \"m\"\naddress = \"http://h:1\"\nsequences = 0\n",
            "leave it out if unknown",
        ),
        ("profile = \"lama-70b-h100-tp8\"\n", "did you mean `llama-70b-h100-tp8`?"),
        ("profile = \"deepseek-v3-decode-h800\"\n", "write what its steps take"),
        ("profile = { base = 9.0 }\n", "e.g. token = 0.0425"),
        ("profile = { token = 0.04, base = -1.0 }\n", "is no time"),
        ("profile = { token = 0.04, chunk = 64 }\n", "no engine takes so few"),
        ("profile = { token = 0.04, kv_tokens = 100 }\n", "holds no prompt"),
        ("profile = { tokn = 0.04 }\n", "did you mean `token`?"),
        ("profile = 7\n", "expected a name such as"),
    ];
    for (lines, expected) in cases {
        let text = workers(&format!("[[site.worker]]\n{lines}"));
        let told = at(root.path(), &text).expect_err("it is wrong");
        let end = expected.rsplit("; ").next().unwrap_or(expected);
        assert!(told.contains(end), "{lines}\n{told}");
    }
}

#[test]
fn a_site_computes_with_workers_or_with_the_embedded_engine() {
    let root = fleet();
    let both = workers(
        "engine = { model = \"builtin\" }\n[[site.worker]]\nengine = \"vllm\"\nserves = \"m\"\n\
         address = \"http://h:1\"\n",
    );
    assert!(at(root.path(), &both).expect_err("both").contains("not with both"));
    let alone = "[[site]]\nname = \"p\"\nprovider = \"openai\"\nbase_url = \"http://h/v1\"\n\
                 [[site.worker]]\nengine = \"vllm\"\naddress = \"http://h:1\"\n";
    assert!(
        resolved(alone, []).expect_err("no site of ours").contains("workers are of a site of ours")
    );
}
