//! Acts: sockets, clocks, files and tasks around the machines of `mainstay-core`.

pub mod admin;
pub mod answer;
pub mod attempt;
pub mod console;
pub mod dialect;
pub mod drive;
pub mod embedded;
pub mod error;
pub mod gateway;
pub mod handover;
pub mod http;
pub mod ledger;
pub mod letters;
pub mod link;
pub mod places;
pub mod policy;
pub mod replace;
pub mod run;
pub mod setup;
pub mod site;
pub mod status;
pub mod tasks;
pub mod telemetry;
pub mod upstream;
pub mod worker;

pub use run::adopt::KEPT;
pub use run::run;
pub use setup::Reader;
