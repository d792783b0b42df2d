//! Chooses the experts of each token, and their weights.
//!
//! All in f32. DeepSeek-V3 (arXiv:2412.19437): the choice is by sigmoid score plus a learned bias,
//! first among groups (by the sum of a group's two best), then among the experts of the groups
//! kept; the weight is the score without the bias. V2 and Qwen3 choose by softmax.

use crate::kernels::{Input, vector};
use crate::pool::Pool;
use crate::shape::{GateShape, GroupScore, Scoring};
use crate::weights::Matrix;

pub struct Gate {
    pub shape: GateShape,
    pub weight: Matrix,
    /// One number per expert, zeros where the model has none.
    pub bias: Vec<f32>,
}

/// One expert a token goes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    pub expert: usize,
    pub weight: f32,
}

impl Gate {
    /// For each vector of `x`, its `top` choices, by falling score.
    pub fn choose(&self, x: &Input<'_>, pool: &Pool) -> Vec<Vec<Choice>> {
        let mut scores = self.weight.multiply(x, pool);
        let experts = self.weight.height();
        scores
            .chunks_exact_mut(experts)
            .map(|scores| choose(&self.shape, scores, &self.bias))
            .collect()
    }
}

/// The choices for one token, from its raw scores (which are overwritten).
fn choose(shape: &GateShape, scores: &mut [f32], bias: &[f32]) -> Vec<Choice> {
    match shape.scoring {
        Scoring::Sigmoid => scores.iter_mut().for_each(|score| *score = vector::sigmoid(*score)),
        Scoring::Softmax => vector::softmax(scores),
    }
    let mut biased: Vec<f32> = scores.iter().zip(bias).map(|(score, bias)| score + bias).collect();
    drop_groups(shape, &mut biased);
    let mut choices: Vec<Choice> = best(&biased, shape.top)
        .into_iter()
        .map(|expert| Choice { expert, weight: scores[expert] })
        .collect();
    let sum: f32 = choices.iter().map(|choice| choice.weight).sum();
    // The reference guards V3's division with this; for a softmax it changes nothing.
    let divisor = if shape.normalise { sum + 1e-20 } else { 1.0 };
    for choice in &mut choices {
        choice.weight = choice.weight / divisor * shape.scale;
    }
    choices
}

/// Sets the scores of all experts outside the best groups to minus infinity. (Zero, as an older
/// reference had it, would win against negative biased scores.)
fn drop_groups(shape: &GateShape, biased: &mut [f32]) {
    if shape.groups_kept >= shape.groups {
        return;
    }
    let size = biased.len() / shape.groups;
    let score = |group: &[f32]| match shape.group_score {
        GroupScore::Best => best(group, 1).into_iter().map(|expert| group[expert]).sum(),
        GroupScore::SumOfTwoBest => best(group, 2).into_iter().map(|expert| group[expert]).sum(),
    };
    let group_scores: Vec<f32> = biased.chunks_exact(size).map(score).collect();
    let kept = best(&group_scores, shape.groups_kept);
    for (group, scores) in biased.chunks_exact_mut(size).enumerate() {
        if !kept.contains(&group) {
            scores.fill(f32::NEG_INFINITY);
        }
    }
}

/// Indices of the `count` highest scores, by falling score; of equals, the first.
fn best(scores: &[f32], count: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..scores.len()).collect();
    indices.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    indices.truncate(count);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v3(top: usize, groups: usize, groups_kept: usize) -> GateShape {
        GateShape {
            scoring: Scoring::Sigmoid,
            bias: true,
            top,
            groups,
            groups_kept,
            group_score: GroupScore::SumOfTwoBest,
            normalise: true,
            scale: 2.5,
        }
    }

    #[test]
    fn the_bias_takes_part_in_the_choice_but_not_in_the_weight() {
        let mut scores = [0.0, 0.0, 0.0, 3.0];
        let choices = choose(&v3(2, 1, 1), &mut scores, &[0.0, 0.0, 9.0, 0.0]);
        assert_eq!(choices.iter().map(|choice| choice.expert).collect::<Vec<_>>(), [2, 3]);
        let (low, high) = (0.5, vector::sigmoid(3.0));
        assert!((choices[0].weight - 2.5 * low / (low + high)).abs() < 1e-6);
        assert!((choices[1].weight - 2.5 * high / (low + high)).abs() < 1e-6);
    }

    #[test]
    fn a_dropped_group_loses_even_against_negative_scores() {
        let mut scores = [0.0, 0.0, 5.0, -5.0];
        let bias = [-2.0, -2.0, -9.0, -9.0];
        let choices = choose(&v3(2, 2, 1), &mut scores, &bias);
        let mut experts: Vec<_> = choices.iter().map(|choice| choice.expert).collect();
        experts.sort();
        assert_eq!(experts, [0, 1]);
    }
}
