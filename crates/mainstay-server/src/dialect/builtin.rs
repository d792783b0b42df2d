//! The dialects that are compiled in.

use super::Dialect;
use std::sync::{Arc, LazyLock};

macro_rules! files {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../dialects/", $name, ".toml")))),*]
    };
}

const FILES: [(&str, &str); 14] = files![
    "deepseek",
    "moonshot",
    "qianfan",
    "dashscope",
    "openai",
    "anthropic",
    "groq",
    "together",
    "openrouter",
    "vllm",
    "sglang",
    "llamacpp",
    "ollama",
    "generic"
];

static ALL: LazyLock<Vec<Arc<Dialect>>> = LazyLock::new(|| {
    let parse = |(name, text)| Arc::new(Dialect::parse(name, text).expect("a built-in dialect"));
    FILES.map(parse).to_vec()
});

impl Dialect {
    /// Names of the dialects that are compiled in.
    pub const NAMES: [&str; 14] = {
        let mut names = [""; 14];
        let mut at = 0;
        while at < names.len() {
            names[at] = FILES[at].0;
            at += 1;
        }
        names
    };

    /// The dialect of this name that is compiled in.
    pub fn builtin(name: &str) -> Option<Arc<Dialect>> {
        ALL.iter().find(|dialect| dialect.name == name).cloned()
    }
}

/// How a site of ours speaks through its node: no provider's, so no name for a configuration.
pub fn of_nodes() -> Arc<Dialect> {
    static OURS: LazyLock<Arc<Dialect>> = LazyLock::new(|| {
        let text = include_str!("../../dialects/mainstay.toml");
        Arc::new(Dialect::parse("mainstay", text).expect("a built-in dialect"))
    });
    OURS.clone()
}

/// What every dialect falls back on.
pub(super) fn generic() -> &'static Dialect {
    &ALL[FILES.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_parses_under_its_name() {
        for (name, text) in FILES {
            if let Err(why) = Dialect::parse(name, text) {
                panic!("{why}");
            }
            assert_eq!(Dialect::builtin(name).unwrap().name, name);
        }
        assert_eq!(generic().name, "generic");
        assert!(Dialect::builtin("nobody").is_none());
    }

    #[test]
    fn the_default_model_is_one_it_may_serve() {
        for dialect in ALL.iter() {
            let chat = dialect.chat.as_deref();
            assert!(chat.is_none_or(|m| dialect.may_serve(m)), "{}: {chat:?}", dialect.name);
        }
    }
}
