//! Reads a request's own keys and refuses what no upstream could serve, in OpenAI's words.
//!
//! Refused is only what would cost an attempt for nothing or what we ourselves must understand.
//! Bounds that differ between providers are theirs to enforce.

use super::super::event::Endpoint;
use super::super::object::{self, Field};
use super::scan::{Media, Scan, scan};
use super::{Call, Format};
use bytes::Bytes;
use serde::Deserialize;

/// Most choices one request may ask for, as at OpenAI. Each is a state here.
const CHOICES_MAX: u64 = 128;

/// Most prompts in one list, as at OpenAI.
const PROMPTS_MAX: u32 = 2048;

/// Tokens that a chat template puts around a message.
const MESSAGE_TOKENS: u64 = 4;

/// Why a request is refused, in OpenAI's words. All of these are status 400 and of type
/// `invalid_request_error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong. It never repeats what the client wrote.
    pub message: String,
    /// The parameter at fault.
    pub param: Option<&'static str>,
    /// OpenAI's code for it.
    pub code: Option<&'static str>,
}

impl Invalid {
    fn body(message: &str) -> Invalid {
        Invalid { message: message.into(), param: None, code: None }
    }

    fn missing(param: &'static str) -> Invalid {
        Invalid {
            message: format!("Missing required parameter: '{param}'."),
            param: Some(param),
            code: Some("missing_required_parameter"),
        }
    }

    fn kind(param: &'static str, expected: &str) -> Invalid {
        Invalid {
            message: format!("Invalid type for '{param}': expected {expected}."),
            param: Some(param),
            code: Some("invalid_type"),
        }
    }

    fn value(param: &'static str, must: &str) -> Invalid {
        Invalid {
            message: format!("Invalid value for '{param}': {must}."),
            param: Some(param),
            code: Some("invalid_value"),
        }
    }
}

pub(super) fn call(endpoint: Endpoint, body: Bytes) -> Result<Call, Invalid> {
    let unreadable = || Invalid::body("We could not parse the JSON body of your request.");
    let text = std::str::from_utf8(&body).map_err(|_| unreadable())?;
    let fields = object::fields(text).map_err(|error| match error.is_data() {
        true => Invalid::body("The body of your request must be a JSON object with distinct keys."),
        false => unreadable(),
    })?;
    let keys = Keys { text, fields: &fields };
    let prompt = keys.scan_all(endpoint)?;
    let number = |key, expected| keys.number::<u32>(key, expected);
    let max_tokens = match endpoint {
        Endpoint::Chat => match number("max_completion_tokens", "an integer")? {
            None => number("max_tokens", "an integer")?,
            some => some,
        },
        Endpoint::Completions | Endpoint::Embeddings => number("max_tokens", "an integer")?,
    };
    if max_tokens == Some(0) && endpoint == Endpoint::Chat {
        return Err(Invalid::value("max_tokens", "it must be at least 1"));
    }
    let n = keys.number::<u64>("n", "an integer")?.unwrap_or(1);
    if n == 0 || n > CHOICES_MAX {
        return Err(Invalid::value("n", "it must be between 1 and 128"));
    }
    let mut call = Call {
        endpoint,
        body: Bytes::new(),
        model: keys.model()?,
        stream: keys.flag("stream")?,
        include_usage: keys.include_usage()?,
        n: n as u32,
        prompts: prompt.prompts,
        max_tokens,
        temperature: keys.number("temperature", "a number")?,
        seed: keys.number("seed", "an integer")?,
        stop: keys.stop()?,
        tools: keys.some("tools") || keys.some("functions"),
        tool_choice: keys.some("tool_choice") || keys.some("function_call"),
        format: keys.format()?,
        logprobs: keys.logprobs(),
        echo: keys.flag("echo")?,
        best_of: number("best_of", "an integer")?,
        media: prompt.media,
        prompt_tokens: prompt.tokens,
        fields: Vec::new(),
    };
    call.fields = fields;
    call.body = body;
    Ok(call)
}

/// What the prompt and the tools are.
struct Prompt {
    tokens: u64,
    media: Media,
    prompts: u32,
}

struct Keys<'a> {
    text: &'a str,
    fields: &'a [Field],
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        let field = self.fields.iter().find(|field| field.key == key)?;
        Some(&self.text[field.value.clone()]).filter(|value| *value != "null")
    }

    /// It is there and says something.
    fn some(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value != "[]")
    }

    fn read<T: Deserialize<'a>>(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<T>, Invalid> {
        let Some(value) = self.get(key) else { return Ok(None) };
        serde_json::from_str(value).map(Some).map_err(|_| Invalid::kind(key, expected))
    }

    fn number<T: Deserialize<'a>>(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<T>, Invalid> {
        self.read(key, expected)
    }

    fn flag(&self, key: &'static str) -> Result<bool, Invalid> {
        Ok(self.read(key, "a boolean")?.unwrap_or(false))
    }

    fn model(&self) -> Result<String, Invalid> {
        let model: Option<String> = self.read("model", "a string")?;
        match model {
            Some(model) if !model.is_empty() => Ok(model),
            Some(_) | None => Err(Invalid {
                message: "you must provide a model parameter".into(),
                param: Some("model"),
                code: Some("missing_required_parameter"),
            }),
        }
    }

    fn include_usage(&self) -> Result<bool, Invalid> {
        #[derive(Deserialize)]
        struct Options {
            include_usage: Option<bool>,
        }
        let options: Option<Options> = self.read("stream_options", "an object")?;
        Ok(options.and_then(|options| options.include_usage).unwrap_or(false))
    }

    fn stop(&self) -> Result<Vec<String>, Invalid> {
        let expected = "a string or an array of strings";
        match self.get("stop") {
            Some(value) if value.starts_with('"') => {
                Ok(self.read("stop", expected)?.map_or(Vec::new(), |stop: String| vec![stop]))
            }
            Some(_) | None => Ok(self.read("stop", expected)?.unwrap_or_default()),
        }
    }

    fn format(&self) -> Result<Format, Invalid> {
        #[derive(Deserialize)]
        struct Form {
            r#type: Option<String>,
        }
        let form: Option<Form> = self.read("response_format", "an object")?;
        let kind = form.and_then(|form| form.r#type).unwrap_or_default();
        let guided = ["guided_json", "guided_regex", "guided_grammar", "guided_choice", "grammar"];
        Ok(match kind.as_str() {
            "json_object" => Format::JsonObject,
            "" | "text" if !guided.iter().any(|key| self.some(key)) => Format::Text,
            _ => Format::JsonSchema,
        })
    }

    /// `logprobs` is a boolean in chat and a number in text completions.
    fn logprobs(&self) -> bool {
        self.get("logprobs").is_some_and(|value| value != "false")
    }

    /// Looks over every list and object once: the prompt for its length and media, the rest for
    /// its depth.
    fn scan_all(&self, endpoint: Endpoint) -> Result<Prompt, Invalid> {
        let prompt_key = match endpoint {
            Endpoint::Chat => "messages",
            Endpoint::Completions => "prompt",
            Endpoint::Embeddings => "input",
        };
        let mut whole = Prompt { tokens: 0, media: Media::default(), prompts: 1 };
        let mut found = false;
        for field in self.fields {
            let value = &self.text[field.value.clone()];
            if !matches!(value.as_bytes().first(), Some(b'[' | b'{' | b'"')) {
                continue;
            }
            let seen = scan(value)
                .map_err(|_| Invalid::body("The body of your request is nested too deep."))?;
            if field.key == prompt_key {
                found = true;
                self.check_prompt(endpoint, value, seen)?;
                let items = u64::from(seen.items);
                let around = if endpoint == Endpoint::Chat { items * MESSAGE_TOKENS } else { 0 };
                whole.tokens += seen.tokens + around;
                whole.media = seen.media;
                whole.prompts = match endpoint {
                    Endpoint::Completions if !seen.numbers => seen.items.max(1),
                    _ => 1,
                };
            } else if matches!(field.key.as_str(), "tools" | "functions" | "response_format") {
                whole.tokens += seen.tokens;
            }
        }
        match (found, self.get(prompt_key)) {
            (true, _) => Ok(whole),
            (false, Some(_)) => Err(wrong_prompt(endpoint)),
            (false, None) => Err(Invalid::missing(prompt_key)),
        }
    }

    fn check_prompt(&self, endpoint: Endpoint, value: &str, seen: Scan) -> Result<(), Invalid> {
        let list = value.starts_with('[');
        let lawful = match endpoint {
            Endpoint::Chat => list && seen.items > 0,
            Endpoint::Completions | Endpoint::Embeddings => {
                (list && seen.items > 0) || value.starts_with('"')
            }
        };
        if !lawful {
            return Err(wrong_prompt(endpoint));
        }
        if endpoint == Endpoint::Completions && !seen.numbers && seen.items > PROMPTS_MAX {
            return Err(Invalid::value("prompt", "it has too many prompts"));
        }
        Ok(())
    }
}

fn wrong_prompt(endpoint: Endpoint) -> Invalid {
    let (param, message) = match endpoint {
        Endpoint::Chat => ("messages", "messages must be a non-empty array"),
        Endpoint::Completions => ("prompt", "prompt must be a string or a non-empty array"),
        Endpoint::Embeddings => ("input", "input must be a string or a non-empty array"),
    };
    Invalid { message: message.into(), param: Some(param), code: Some("invalid_type") }
}
