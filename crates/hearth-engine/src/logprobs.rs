//! Log-probabilities of tokens under the model's own distribution.
//!
//! From the logits as they are: temperature 1, no penalties, no constraint. The sum of exponentials runs in f64 over
//! the tokens in ascending order of their ids, with the exponential of `libm`, so that the figures are the same bits on every
//! machine (`docs/numerics.md`). They are rounded to f32 at the end and are never above 0.

use crate::{error::RequestError, job::TokenLogprob, sampler::sort_key};

/// The most alternatives that are listed beside a token.
pub(crate) const MAX_ALTERNATIVES: usize = 128;

/// Refuses a number of alternatives beyond the limit.
pub(crate) fn check(n: Option<usize>) -> Result<(), RequestError> {
    match n {
        Some(n) if n > MAX_ALTERNATIVES => Err(RequestError::TooMany {
            what: "alternatives beside each token's log-probability",
            n,
            limit: MAX_ALTERNATIVES,
        }),
        _ => Ok(()),
    }
}

/// Working memory: a number for each token of the vocabulary.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    keys: Vec<u64>,
}

/// The log-probability of `token`, and the best `n_top` tokens with theirs.
pub(crate) fn of_token(
    scratch: &mut Scratch,
    logits: &[f32],
    token: u32,
    n_top: usize,
) -> TokenLogprob {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let highest = f64::from(highest);
    let sum = logits.iter().fold(0.0, |sum, &logit| {
        sum + libm::exp(f64::from(logit) - highest)
    });
    let log_sum = highest + libm::log(sum);
    let logprob = |token: u32| ((f64::from(logits[token as usize]) - log_sum) as f32).min(0.0);
    TokenLogprob {
        token,
        logprob: logprob(token),
        top: best(&mut scratch.keys, logits, n_top)
            .map(|token| (token, logprob(token)))
            .collect(),
    }
}

/// The best `n` tokens: by logit, of equals the lowest id.
fn best<'a>(
    keys: &'a mut Vec<u64>,
    logits: &[f32],
    n: usize,
) -> impl Iterator<Item = u32> + use<'a> {
    keys.clear();
    if n > 0 {
        let all = logits.iter().enumerate();
        keys.extend(all.map(|(token, &logit)| sort_key(token as u32, logit)));
        if n < keys.len() {
            keys.select_nth_unstable(n);
            keys.truncate(n);
        }
        keys.sort_unstable();
    }
    keys.iter().map(|&key| key as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_logits() {
        let logits: Vec<f32> = [0.125f32, 0.5, 0.25, 0.125].map(f32::ln).to_vec();
        let mut scratch = Scratch::default();
        let found = of_token(&mut scratch, &logits, 2, 3);
        assert_eq!(found.token, 2);
        assert!((found.logprob - 0.25f32.ln()).abs() < 1e-6);
        let tokens: Vec<u32> = found.top.iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, [1, 2, 0], "best first, of equals the lowest id");
        assert!((found.top[0].1 - 0.5f32.ln()).abs() < 1e-6);
        assert_eq!(of_token(&mut scratch, &logits, 0, 0).top, []);
        assert_eq!(of_token(&mut scratch, &logits, 0, 9).top.len(), 4);
    }

    #[test]
    fn far_logits_do_not_overflow_and_a_sure_token_has_zero() {
        let logits = [-3e38f32, 3e38, 0.0];
        let found = of_token(&mut Scratch::default(), &logits, 1, 1);
        assert_eq!(
            (found.logprob, found.top.as_slice()),
            (0.0, &[(1, 0.0)][..])
        );
        let other = of_token(&mut Scratch::default(), &logits, 0, 0);
        assert!(other.logprob < -1e38);
    }
}
