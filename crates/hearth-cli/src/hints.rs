//! What to do about each error of the libraries below, and whose fault it is.
//!
//! A library says what is wrong; only the program knows which command or flag helps, so the hints stand here. Variants
//! that a correct program cannot cause are our fault: exit code 1.

use hearth_engine::{EngineError, RequestError};
use hearth_gguf::GgufError;
use hearth_kernels::KernelError;
use hearth_model::{ModelError, PoolError, StepError};
use hearth_text::{TemplateError, TextError};

use crate::failure::Failure;

const OTHER_FILE: &str =
    "use a file of the same model in another type: Q8_0, Q4_K_M or F16 for instance";
const DAMAGED: &str =
    "the file is damaged or was converted wrongly; 'hearth show FILE --tensors' lists what it has";
const LESS_CONTEXT: &str = "ask for a smaller --context";

/// The error with everything behind it as causes, blamed on the input.
fn input(error: &(dyn std::error::Error + 'static), hint: impl std::fmt::Display) -> Failure {
    let failure = Failure::input(error).hint(hint);
    match error.source() {
        Some(source) => failure.caused_by(source),
        None => failure,
    }
}

impl From<GgufError> for Failure {
    fn from(error: GgufError) -> Failure {
        input(&error, error.hint())
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        let hint = match &error {
            ModelError::UnsupportedFamily { .. } => {
                "use a model of a supported family; 'hearth show FILE' shows what this file contains"
            }
            ModelError::TensorType { .. } => OTHER_FILE,
            ModelError::UnsupportedKey { .. } => {
                "this version would compute something else than the model means; use another model"
            }
            ModelError::Context { .. } => LESS_CONTEXT,
            ModelError::WorkingMemory { .. } => "ask for a smaller --context or --chunk",
            ModelError::ExecutorLimits { .. } => return Failure::ours(&error).caused_by(&error),
            _ => DAMAGED,
        };
        input(&error, hint)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Failure {
        match error {
            PoolError::Exhausted { .. } => Failure::ours(&error),
            _ => input(&error, LESS_CONTEXT),
        }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Failure {
        match error {
            StepError::NotFinite { .. } => input(&error, DAMAGED),
            StepError::Token { .. } => {
                input(&error, "token ids of a text come from 'hearth tokenize'")
            }
            _ => Failure::ours(&error),
        }
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Failure {
        input(&error, DAMAGED)
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Failure {
        input(
            &error,
            "the model's chat template does not take this conversation; --raw goes without it",
        )
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Failure {
        match error {
            KernelError::Thread { .. } => input(&error, "ask for fewer --threads"),
            _ => Failure::ours(&error),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        let hint = match &error {
            RequestError::PromptTooLong { .. } => {
                "shorten the prompt or give a larger --context; nothing is ever cut silently"
            }
            RequestError::Token { .. } => "'hearth tokenize' shows the token ids of a text",
            RequestError::NothingToDraw { .. } | RequestError::DuplicateBias { .. } => {
                "change --logit-bias"
            }
            RequestError::EmptyStop { .. } => "give --stop a text, or leave it out",
            RequestError::EmptyPrompt => "give a prompt as an argument or on standard input",
            _ => "see 'hearth run --help'",
        };
        input(&error, hint)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        match error {
            EngineError::Request(error) => error.into(),
            EngineError::Model(error) => error.into(),
            EngineError::Text(error) => error.into(),
            EngineError::Pool(error) => error.into(),
            EngineError::Step(error) => error.into(),
            EngineError::DraftSize { .. } | EngineError::DraftToken { .. } => input(
                &error,
                "a draft is a smaller model of the same family and version, such as Qwen3 0.6B for Qwen3 4B",
            ),
            error => input(&error, DAMAGED),
        }
    }
}
