//! A chat request as Anthropic's Messages API takes it.

use super::super::ContinueForm;
use super::Call;
use super::write::{Edit, unsupported};
use mainstay_core::names::Failure;

pub(super) fn body(
    _call: &Call,
    _edit: &Edit<'_>,
    _form: Option<&ContinueForm>,
    _dropped: &mut Vec<String>,
) -> Result<Vec<u8>, Failure> {
    Err(unsupported("not written yet"))
}
