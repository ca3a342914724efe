//! The only list of model families.

use crate::{
    error::ModelError,
    families::{llama, qwen2, qwen3},
    plan::PlanBuilder,
};

/// A family: its name in `general.architecture`, and what builds its plan.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// Whether `attention.sliding_window` holds for every layer. In the other families some layers have a
    /// window and some do not, and a file cannot say which.
    pub(crate) windows_every_layer: bool,
    pub(crate) plan: fn(&mut PlanBuilder<'_>) -> Result<(), ModelError>,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "llama",
        windows_every_layer: true,
        plan: llama::plan,
    },
    Family {
        name: "qwen2",
        windows_every_layer: false,
        plan: qwen2::plan,
    },
    Family {
        name: "qwen3",
        windows_every_layer: false,
        plan: qwen3::plan,
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
