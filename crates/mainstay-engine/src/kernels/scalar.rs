//! The plain statement of each kernel: the oracle for the fast ones, and what runs where none fits.

use super::Element;
use super::blend::fold;
use half::{bf16, f16};

/// Number `index` of a stored row.
fn number(element: Element, row: &[u8], index: usize) -> f32 {
    match element {
        Element::F32 => {
            let at = &row[index * 4..index * 4 + 4];
            f32::from_le_bytes([at[0], at[1], at[2], at[3]])
        }
        Element::Bf16 => bf16::from_le_bytes([row[index * 2], row[index * 2 + 1]]).to_f32(),
        Element::F16 => f16::from_le_bytes([row[index * 2], row[index * 2 + 1]]).to_f32(),
    }
}

/// Summed in 16 lanes by fused multiply-adds, eight of them where only eight numbers are left; what
/// is left then is added one after another.
pub fn dot(element: Element, row: &[u8], x: &[f32]) -> f32 {
    let whole = x.len() / 8 * 8;
    let mut lanes = [0.0f32; 16];
    for (index, x) in x[..whole].iter().enumerate() {
        let lane = &mut lanes[index % 16];
        *lane = number(element, row, index).mul_add(*x, *lane);
    }
    let rest = x.iter().enumerate().skip(whole);
    rest.fold(fold(lanes), |sum, (index, x)| sum + number(element, row, index) * x)
}

pub fn add_scaled(element: Element, row: &[u8], scale: f32, sum: &mut [f32]) {
    for (index, sum) in sum.iter_mut().enumerate() {
        *sum = scale.mul_add(number(element, row, index), *sum);
    }
}
