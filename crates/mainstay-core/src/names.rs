//! Identifiers, and the words for what can go wrong upstream.

use crate::time::Duration;
use alloc::string::String;

/// Position of a site in `Config::sites`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u16);

/// Position of a target (a model at a site) in `Config::targets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u16);

/// Position of a model, the name a client asks for, in `Config::models`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u16);

/// Position of a tier in `Config::tiers`, the highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierId(pub u8);

/// One client request in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One try of one request at one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The request it belongs to.
    pub request: RequestId,
    /// 1 for the first attempt of the request, then counting up.
    pub number: u8,
}

/// Position of a gateway among those the policy lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(pub u16);

/// Position of a worker at its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u16);

/// An attempt as a site knows it: request numbers are each gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// Whose.
    pub from: GatewayId,
    /// Which.
    pub attempt: AttemptId,
}

/// What an upstream's misbehaviour means. A dialect names the class; what to do about it is
/// decided here in core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The request cannot be served as it is written, here or anywhere.
    ClientFault(ClientFault),
    /// The provider refused the content.
    Policy,
    /// Our key, region or permission is refused.
    OurAuth,
    /// Our account cannot pay.
    OurBilling,
    /// Our contract's rate, token or concurrency limit is reached.
    ThrottleAccount,
    /// Within the limits, but growing too fast.
    ThrottleBurst,
    /// Full, queueing, loading or slow; alive.
    Overload,
    /// One fault: 500, 502, reset, cut.
    Transient,
    /// No answer can come.
    Dead(Scope),
    /// What arrives cannot be trusted.
    PoisonedStream,
}

/// Why a request cannot be served as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientFault {
    /// Wrong everywhere.
    Invalid,
    /// Longer than the context window here.
    Context,
    /// A body larger than is taken here.
    Size,
    /// Asks for something that is not offered here.
    Unsupported,
}

/// How much of an upstream is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The whole site: refused, no route, no name, no trust.
    Site,
    /// One model there: its name is gone or offline.
    Model,
}

impl ErrorClass {
    /// The class in one word, as it stands in logs, metrics, corpus files and error messages.
    pub const fn word(self) -> &'static str {
        match self {
            ErrorClass::ClientFault(ClientFault::Invalid) => "client_fault/invalid",
            ErrorClass::ClientFault(ClientFault::Context) => "client_fault/context",
            ErrorClass::ClientFault(ClientFault::Size) => "client_fault/size",
            ErrorClass::ClientFault(ClientFault::Unsupported) => "client_fault/unsupported",
            ErrorClass::Policy => "policy",
            ErrorClass::OurAuth => "our_auth",
            ErrorClass::OurBilling => "our_billing",
            ErrorClass::ThrottleAccount => "throttle_account",
            ErrorClass::ThrottleBurst => "throttle_burst",
            ErrorClass::Overload => "overload",
            ErrorClass::Transient => "transient",
            ErrorClass::Dead(Scope::Site) => "dead",
            ErrorClass::Dead(Scope::Model) => "dead/model",
            ErrorClass::PoisonedStream => "poisoned_stream",
        }
    }

    /// The class that `word` names; `client_fault` alone is `invalid`.
    pub fn from_word(word: &str) -> Option<ErrorClass> {
        Some(match word {
            "client_fault" | "client_fault/invalid" => {
                ErrorClass::ClientFault(ClientFault::Invalid)
            }
            "client_fault/context" => ErrorClass::ClientFault(ClientFault::Context),
            "client_fault/size" => ErrorClass::ClientFault(ClientFault::Size),
            "client_fault/unsupported" => ErrorClass::ClientFault(ClientFault::Unsupported),
            "policy" => ErrorClass::Policy,
            "our_auth" => ErrorClass::OurAuth,
            "our_billing" => ErrorClass::OurBilling,
            "throttle_account" => ErrorClass::ThrottleAccount,
            "throttle_burst" => ErrorClass::ThrottleBurst,
            "overload" => ErrorClass::Overload,
            "transient" => ErrorClass::Transient,
            "dead" => ErrorClass::Dead(Scope::Site),
            "dead/model" => ErrorClass::Dead(Scope::Model),
            "poisoned_stream" => ErrorClass::PoisonedStream,
            _ => return None,
        })
    }
}

/// What a reply said when it was not an answer: the class, and the words for whoever must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub class: ErrorClass,
    /// The provider's HTTP status, if there was one.
    pub status: Option<u16>,
    /// The provider's own code, e.g. `context_length_exceeded`.
    pub code: Option<String>,
    /// The provider's own type, e.g. `invalid_request_error`.
    pub kind: Option<String>,
    /// The request parameter at fault, if the provider named one.
    pub param: Option<String>,
    /// The provider's message. It may reach the client only for client faults and policy; it is
    /// never logged.
    pub message: String,
    /// The least time to wait before this target is asked again, if the provider said so and it
    /// can be believed.
    pub retry_after: Option<Duration>,
    /// The context window or the largest body the refusal names.
    pub limit: Option<u64>,
}

impl Failure {
    /// A failure that has a class and a message of our own, and nothing of the provider's.
    pub fn ours(class: ErrorClass, message: impl Into<String>) -> Failure {
        Failure {
            class,
            status: None,
            code: None,
            kind: None,
            param: None,
            message: message.into(),
            retry_after: None,
            limit: None,
        }
    }
}
/// One number for many, the same on every machine: FNV-1a over words. Against mistakes, not
/// against malice; links and snapshots are authenticated.
pub(crate) fn fold(words: impl IntoIterator<Item = u64>) -> u64 {
    let mut folded = 0xcbf2_9ce4_8422_2325u64;
    for byte in words.into_iter().flat_map(u64::to_le_bytes) {
        folded = (folded ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    folded
}
