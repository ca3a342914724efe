//! Texts to vectors of unit length, for every dialect that has a route for it.

use std::sync::Arc;

use hearth_engine::{RequestError, SubmitError};
use hearth_text::Encode;

use super::off_thread;
use crate::{app::App, auth::Caller, error::ApiError, exchange::Prompt, models::Loaded};

/// Vectors, and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// One for each text, in their order, of unit length.
    pub list: Vec<Vec<f32>>,
    /// Tokens read.
    pub n_tokens: usize,
}

/// Turns texts into vectors. Where `n_dimensions` is given they are cut to so many and made unit length again.
///
/// # Errors
///
/// A text is empty or does not fit, a token is none of the vocabulary, there are not so many dimensions, or the queue is full.
pub async fn embed(
    app: &App,
    who: &Caller,
    loaded: &Arc<Loaded>,
    prompts: Vec<Prompt>,
    n_dimensions: Option<usize>,
) -> Result<Vectors, ApiError> {
    let n_embd = loaded.engine.model().hparams().n_embd;
    if let Some(n) = n_dimensions.filter(|n| *n > n_embd) {
        let message = format!("'dimensions' is {n}, and the vectors of this model have {n_embd}");
        return Err(ApiError::invalid("dimensions", message));
    }
    let model = loaded.clone();
    let inputs = off_thread(move || {
        prompts
            .iter()
            .map(|prompt| tokens(&model, prompt))
            .collect::<Result<Vec<_>, _>>()
    });
    let inputs = inputs.await?;
    let n_tokens = inputs.iter().map(Vec::len).sum();
    let mut list = Vec::with_capacity(inputs.len());
    let work = async {
        let mut events = loaded
            .engine
            .embed(who.owner.clone(), inputs)
            .map_err(refused)?;
        while let Some(vector) = events.next().await {
            list.push(unit(vector?, n_dimensions.unwrap_or(n_embd)));
        }
        Ok::<(), ApiError>(())
    };
    match tokio::time::timeout(app.limits.deadline(), work).await {
        Ok(result) => result?,
        Err(_) => return Err(hearth_engine::JobError::Deadline.into()),
    }
    Ok(Vectors { list, n_tokens })
}

fn tokens(loaded: &Loaded, prompt: &Prompt) -> Result<Vec<u32>, ApiError> {
    match prompt {
        Prompt::Tokens(tokens) => Ok(tokens.clone()),
        Prompt::Text(text) if !text.is_empty() => {
            Ok(loaded.engine.tokenizer().encode(text, Encode::default()))
        }
        _ => Err(ApiError::invalid(
            "input",
            "'input' must not have empty texts",
        )),
    }
}

fn refused(error: SubmitError) -> ApiError {
    match error {
        SubmitError::Request(RequestError::TextTooLong { n_prompt, n_ctx }) => {
            ApiError::too_long(n_prompt, n_ctx).of_prompt("input")
        }
        other => ApiError::from(other).with_param("input"),
    }
}

/// The first `n` numbers, made unit length; nothing but zeros stays as it is.
fn unit(mut vector: Vec<f32>, n: usize) -> Vec<f32> {
    vector.truncate(n);
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    let length = vector.iter().map(square).sum::<f64>().sqrt();
    if length > 0.0 {
        vector
            .iter_mut()
            .for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_has_unit_length_again() {
        assert_eq!(unit(vec![3.0, 4.0, 12.0], 2), [0.6, 0.8]);
        assert_eq!(unit(vec![0.0, 0.0], 2), [0.0, 0.0]);
        assert_eq!(unit(vec![1e-30, 0.0], 2), [1.0, 0.0]);
    }
}
