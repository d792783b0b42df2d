//! Traces give what their README states, and broken ones say where they are broken.

use mainstay_sim::workload::{Arrival, BLOCK, Options, Source, aggregate, alike, open};
use std::path::PathBuf;
use std::time::Duration;

fn options() -> Options {
    Options { source: Source::default(), ..Options::default() }
}

fn near(measured: f64, expected: f64, part: f64) {
    assert!((measured - expected).abs() <= part * expected, "{measured}, not {expected}");
}

fn mean(arrivals: &[Arrival], of: fn(&Arrival) -> u32) -> f64 {
    arrivals.iter().map(|a| f64::from(of(a))).sum::<f64>() / arrivals.len() as f64
}

fn hits(arrivals: &[Arrival]) -> (f64, f64) {
    let sum = |of: fn(&Arrival) -> u32| arrivals.iter().map(|a| f64::from(of(a))).sum::<f64>();
    let cached = sum(|a| a.cached);
    let blocks = sum(|a| a.cached.div_ceil(BLOCK)) / sum(|a| a.prompt.div_ceil(BLOCK));
    (blocks, cached / sum(|a| a.prompt))
}

#[test]
fn the_conversation_trace_is_what_its_readme_states() {
    let options = Options { spread: false, ..options() };
    let all: Vec<Arrival> = open("conversation", &options).unwrap().collect();
    assert_eq!(all.len(), 12_031);
    near(mean(&all, |a| a.prompt), 12_035.0, 0.001);
    near(mean(&all, |a| a.output), 343.0, 0.005);
    assert_eq!(all.iter().map(|a| a.prompt).max(), Some(126_195));
    near(all.last().unwrap().at.as_secs_f64(), 3537.0, 0.002);
    let (blocks, tokens) = hits(&all);
    println!("conversation: {:.3} of blocks, {:.3} of tokens hit", blocks, tokens);
    near(blocks, 0.366, 0.005);
    near(tokens, 0.374, 0.005);
    let mut moments: Vec<Duration> = all.iter().map(|a| a.at).collect();
    moments.dedup();
    println!("{} distinct moments", moments.len());
    assert!(moments.len() < 1300, "{}", moments.len());
}

#[test]
fn the_synthetic_trace_is_what_its_readme_states() {
    let options = Options { spread: false, ..options() };
    let all: Vec<Arrival> = open("synthetic", &options).unwrap().collect();
    assert_eq!(all.len(), 3_993);
    near(mean(&all, |a| a.prompt), 15_325.0, 0.001);
    near(mean(&all, |a| a.output), 149.0, 0.005);
    let (blocks, tokens) = hits(&all);
    println!("synthetic: {:.3} of blocks, {:.3} of tokens hit", blocks, tokens);
    near(blocks, 0.640, 0.005);
    near(tokens, 0.651, 0.005);
}

#[test]
fn spread_arrivals_keep_their_order_and_their_seed() {
    let all: Vec<Arrival> = open("conversation", &options()).unwrap().collect();
    let again: Vec<Arrival> = open("conversation", &options()).unwrap().collect();
    assert_eq!(all, again);
    assert!(all.is_sorted_by_key(|a| a.at));
    let mut moments: Vec<Duration> = all.iter().map(|a| a.at).collect();
    moments.dedup();
    assert!(moments.len() > 12_000, "{}", moments.len());
    let small = Options { cache: Some(2600), ..options() };
    let all_small: Vec<Arrival> = open("conversation", &small).unwrap().collect();
    assert!(hits(&all_small).1 < hits(&all).1);
}

#[test]
fn azures_code_trace_is_what_its_readme_states() {
    let all: Vec<Arrival> = open("azure-code", &options()).unwrap().collect();
    assert_eq!(all.len(), 8_819);
    let mut prompts: Vec<u32> = all.iter().map(|a| a.prompt).collect();
    prompts.sort_unstable();
    near(f64::from(prompts[prompts.len() / 2]), 1469.0, 0.01);
    let span = all.last().unwrap().at.as_secs_f64();
    near(span, 57.0 * 60.0, 0.02);
    near(all.len() as f64 / span, 2.6, 0.03);
    let twice = Options { speed: 2.0, ..options() };
    let twice: Vec<Arrival> = open("azure-code", &twice).unwrap().collect();
    near(twice.last().unwrap().at.as_secs_f64(), span / 2.0, 0.001);
}

#[test]
fn servegens_clients_ask_as_often_as_their_readme_states() {
    let rates = aggregate("deepseek-r1", &options()).unwrap();
    let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
    let most = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    println!("deepseek-r1: mean {:.1}, max {most:.1} a second", sum / rates.len() as f64);
    near(sum / rates.len() as f64, 16.0, 0.05);
    near(most, 43.0, 0.02);
    let tenth = Options { speed: 0.02, ..options() };
    let all: Vec<Arrival> = open("servegen-deepseek-r1", &tenth).unwrap().collect();
    near(all.len() as f64, sum * 600.0 * 0.02, 0.03);
    assert!(all.is_sorted_by_key(|a| a.at));
    let (prompt, output) = (mean(&all, |a| a.prompt), mean(&all, |a| a.output));
    println!("deepseek-r1: mean {prompt:.0} in, {output:.0} out");
    near(prompt, 1272.0, 0.15);
    near(output, 1534.0, 0.15);
}

#[test]
fn like_requests_come_by_chance_at_their_rate() {
    let options = Options { rate: 195.0, ..options() };
    let all: Vec<Arrival> = alike(&options).take(20_000).collect();
    near(20_000.0 / all.last().unwrap().at.as_secs_f64(), 195.0, 0.02);
    let first = &all[0];
    let turns = all.iter().filter(|a| a.session == first.session).count();
    assert_eq!(turns, 10);
}

/// A folder of its own with one packed trace.
fn folder(name: &str, packed: &[u8]) -> Options {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("t.jsonl.zst"), packed).unwrap();
    std::fs::write(folder.join("t.csv.zst"), packed).unwrap();
    Options { source: Source { folder: Some(folder) }, ..Options::default() }
}

/// Text as a zstd frame of raw blocks, which needs no compressor.
fn packed(text: &str) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let header = 1 | (text.len() as u32) << 3;
    frame.extend(&header.to_le_bytes()[..3]);
    frame.extend(text.as_bytes());
    frame
}

fn problem(name: &str, file: &str, text: &[u8]) -> String {
    match open(file, &folder(name, text)) {
        Ok(_) => panic!("{name} was taken"),
        Err(problem) => problem.to_string(),
    }
}

#[test]
fn a_broken_trace_says_where_it_is_broken() {
    let good = r#"{"timestamp":0,"input_length":600,"output_length":3,"hash_ids":[0,1]}"#;
    let json = |line: &str| packed(&format!("{good}\n{line}\n"));
    for (name, text, expected) in [
        ("empty", packed(""), "t.jsonl.zst: holds no request"),
        ("noise", b"not zstd at all".to_vec(), "t.jsonl.zst: not zstd"),
        ("nothing", Vec::new(), "t.jsonl.zst: not zstd"),
        ("cut", packed(good)[..40].to_vec(), "t.jsonl.zst: unpack"),
        ("negative", json(&good.replace("600", "-600")), "t.jsonl.zst:2: invalid value"),
        ("huge", json(&good.replace("600", "99999999999")), "t.jsonl.zst:2: input_length"),
        ("late", json(&good.replace(":0,", ":9999999999999,")), "t.jsonl.zst:2: timestamp"),
        ("lacking", json(r#"{"timestamp":0}"#), "t.jsonl.zst:2: missing field"),
        ("blocks", json(&good.replace("[0,1]", "[0,1,2]")), "t.jsonl.zst:2: 3 blocks"),
    ] {
        let told = problem(name, "t.jsonl.zst", &text);
        assert!(told.starts_with(expected), "{name}: {told}");
    }
    let head = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,5,1\n";
    for (name, text, expected) in [
        ("columns", "TIMESTAMP,Context\n".to_string(), "t.csv.zst:1: no column ContextTokens"),
        ("width", format!("{head}2023-11-16 18:17:03.97,5\n"), "t.csv.zst:3: 2 columns, not 3"),
        ("time", format!("{head}yesterday,5,1\n"), "t.csv.zst:3: yesterday is no time"),
        ("back", format!("{head}2023-11-16 18:17:02.97,5,1\n"), "t.csv.zst:3: before the first"),
        ("minus", format!("{head}2023-11-16 18:17:04.97,-5,1\n"), "t.csv.zst:3: ContextTokens"),
        ("bare", head[..40].to_string(), "t.csv.zst: holds no request"),
    ] {
        let told = problem(name, "t.csv.zst", &packed(&text));
        assert!(told.starts_with(expected), "{name}: {told}");
    }
}

#[test]
fn a_broken_model_of_clients_says_where_it_is_broken() {
    let quantiles = [7; 34].map(|n: i32| n.to_string()).join(",");
    let lengths =
        format!(r#"{{"client":0,"start_s":0,"input_tokens":[{quantiles}],"output_tokens":[]}}"#);
    let whole = lengths.replace("[]", &format!("[{quantiles}]"));
    let head = "client,start_s,rate_rps,cv,pattern,p1,p2\n";
    for (name, row, lengths, expected) in [
        ("rate", "0,0,-1,1,Gamma,1,1", &whole, "rates.csv.zst:2: rate_rps"),
        ("start", "0,99999999999999,1,1,Gamma,1,1", &whole, "rates.csv.zst:2: start_s"),
        ("pattern", "0,0,1,1,Pareto,1,1", &whole, "rates.csv.zst:2: pattern"),
        ("shape", "0,0,1,1,Gamma,nan,1", &whole, "rates.csv.zst:2: p1"),
        ("none", "", &whole, "rates.csv.zst:2: 1 columns"),
        ("many", "0,0,90000,1,Gamma,1,1", &whole, "x: 54000000 requests"),
        ("short", "0,0,1,1,Gamma,1,1", &lengths, "lengths.jsonl.zst:1: not 34"),
        ("least", "0,0,1,1,Weibull,1e-300,1", &whole, ""),
    ] {
        let options = folder(&format!("clients-{name}"), &[]);
        let folder = options.source.folder.as_ref().unwrap().join("servegen");
        std::fs::create_dir_all(&folder).unwrap();
        let rates = packed(&format!("{head}{row}\n"));
        std::fs::write(folder.join("x_rates.csv.zst"), rates).unwrap();
        std::fs::write(folder.join("x_lengths.jsonl.zst"), packed(lengths)).unwrap();
        match open("servegen-x", &options) {
            Ok(all) => assert_eq!((expected, all.count()), ("", 600), "{name}"),
            Err(problem) => assert!(problem.to_string().contains(expected), "{problem}"),
        }
    }
}

/// Runs where `MAINSTAY_TRACES` names the folder of all traces.
#[test]
fn traces_of_the_folder_are_what_their_readme_states() {
    let options = Options { speed: 0.001, ..Options::default() };
    if options.source.folder.is_none() {
        return;
    }
    assert_eq!(open("azure-conv", &options).unwrap().count(), 19_366);
    assert_eq!(open("arxiv", &options).unwrap().count(), 28_257);
    for (model, mean) in [("m-large", 196.0), ("m-mid", 1868.0), ("m-small", 1196.0)] {
        let rates = aggregate(model, &options).unwrap();
        let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
        println!("{model}: mean {:.0} a second", sum / rates.len() as f64);
        near(sum / rates.len() as f64, mean, 0.07);
        assert!(open(&format!("servegen-{model}"), &options).unwrap().take(5000).count() > 0);
    }
}

#[test]
fn a_trace_that_is_not_there_is_named() {
    for name in ["azure-conv", "arxiv", "servegen-none", "elsewhere/x.csv.zst", "what"] {
        let Err(problem) = open(name, &options()) else { panic!("{name} was found") };
        println!("{problem}");
        assert!(problem.to_string().contains(": no"), "{problem}");
    }
}

#[test]
fn a_file_that_unpacks_without_end_is_refused() {
    // One byte repeated 128 KiB a block, for more than 256 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for _ in 0..2100 {
        frame.extend(&(2u32 | (128 << 10) << 3).to_le_bytes()[..3]);
        frame.push(b'x');
    }
    let told = problem("endless", "t.jsonl.zst", &frame);
    assert!(told.contains("holds more than"), "{told}");
}
