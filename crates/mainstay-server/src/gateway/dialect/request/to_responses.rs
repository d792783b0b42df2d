//! A chat request as OpenAI's Responses API takes it.

use super::Call;
use super::write::{Edit, unsupported};
use mainstay_core::names::Failure;

pub(super) fn body(
    _call: &Call,
    _edit: &Edit<'_>,
    _dropped: &mut Vec<String>,
) -> Result<Vec<u8>, Failure> {
    Err(unsupported("not written yet"))
}
