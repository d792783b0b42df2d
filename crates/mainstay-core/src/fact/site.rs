//! Decisions of a site controller.

/// One decision of a site controller.
#[derive(Clone, Debug, PartialEq)]
pub enum SiteFact {}
