//! The `mainstay` binary: reads the command line and starts what it names.

use std::process::ExitCode;

use mainstay::faults;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["faults", "list"] => {
            print!("{}", faults::list());
            ExitCode::SUCCESS
        }
        ["faults", "serve", options @ ..] => match faults_options(options) {
            Some(options) => match faults::run(options).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("mainstay faults serve: {error}");
                    ExitCode::from(1)
                }
            },
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: mainstay faults serve [--listen 127.0.0.1:0] [--profile fast|full] [--json]");
    ExitCode::from(2)
}

fn faults_options(words: &[&str]) -> Option<faults::Options> {
    let mut options = faults::Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--json" => options.json = true,
            "--listen" => options.listen = words.next()?.parse().ok()?,
            "--profile" => {
                options.profile = match *words.next()? {
                    "full" => faults::Profile::Full,
                    "fast" => faults::Profile::Fast,
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    Some(options)
}
