//! The only list of model families.

use crate::{
    error::ModelError,
    families::{llama, qwen2, qwen3, qwen3moe},
    plan::PlanBuilder,
};

/// A family: its name in `general.architecture`, and what builds its plan.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// Whether `attention.sliding_window` holds for every layer. In the other families some layers have a
    /// window and some do not, and a file cannot say which.
    pub(crate) windows_every_layer: bool,
    pub(crate) experts: Experts,
    pub(crate) plan: fn(&mut PlanBuilder<'_>) -> Result<(), ModelError>,
}

/// Whether the models of a family are mixtures of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Experts {
    /// Keys that speak of experts are refused.
    Never,
    /// Those whose file has `expert_count`.
    Some,
    /// All: `expert_count` is required.
    Always,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "llama",
        windows_every_layer: true,
        experts: Experts::Some,
        plan: llama::plan,
    },
    Family {
        name: "qwen2",
        windows_every_layer: false,
        experts: Experts::Never,
        plan: qwen2::plan,
    },
    Family {
        name: "qwen3",
        windows_every_layer: false,
        experts: Experts::Never,
        plan: qwen3::plan,
    },
    Family {
        name: "qwen3moe",
        windows_every_layer: false,
        experts: Experts::Always,
        plan: qwen3moe::plan,
    },
];

/// The names of all families.
pub fn supported_families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

pub(crate) fn find(name: &str) -> Result<&'static Family, ModelError> {
    FAMILIES
        .iter()
        .find(|family| family.name == name)
        .ok_or_else(|| ModelError::UnsupportedFamily {
            found: name.to_owned(),
            supported: supported_families().collect::<Vec<_>>().join(", "),
        })
}
