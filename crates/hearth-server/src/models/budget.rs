//! How much memory a model's keys and values may take when nobody says.

use std::sync::Arc;

use hearth_engine::EngineOptions;
use hearth_gguf::Gguf;
use hearth_kernels::PAGE_POSITIONS;
use hearth_model::{Model, ModelError, ModelOptions, PageLayout};

/// Sets the budget for a model that may take `memory_bytes` in all.
pub(super) fn set(
    options: &mut EngineOptions,
    gguf: &Arc<Gguf>,
    memory_bytes: u64,
) -> Result<(), ModelError> {
    let n_ctx = options.n_ctx;
    let model = Model::load(gguf.clone(), ModelOptions { n_ctx })?;
    let page_bytes = PageLayout::new(model.plan(), options.kv_type).page_bytes() as u64;
    let n_pages = model.n_ctx().div_ceil(PAGE_POSITIONS) as u64;
    let context_bytes = n_pages.saturating_mul(page_bytes);
    let budget = kv_bytes(memory_bytes, gguf.file_bytes(), context_bytes);
    options.kv_budget_bytes = Some(budget.max(page_bytes));
    Ok(())
}

/// Half of what the weights leave, so that others have the rest; all of it when a single context needs that. A model that memory
/// cannot hold is read from the disk again and again, and needs a context all the same.
fn kv_bytes(memory_bytes: u64, file_bytes: u64, context_bytes: u64) -> u64 {
    let rest = memory_bytes.saturating_sub(file_bytes);
    let rest = rest.max(memory_bytes / 4);
    (rest / 2).max(context_bytes.min(rest))
}

#[cfg(test)]
mod tests {
    use super::kv_bytes;

    #[test]
    fn weights_come_first_and_one_context_is_worth_all_the_rest() {
        let cases = [
            (16, 4, 1, 6, "half of the rest"),
            (16, 4, 8, 8, "one context needs more"),
            (16, 4, 100, 12, "one context needs more than there is"),
            (16, 15, 100, 4, "weights take nearly all"),
            (16, 40, 100, 4, "weights take more than all"),
        ];
        for (memory, file, context, budget, why) in cases {
            assert_eq!(kv_bytes(memory, file, context), budget, "{why}");
        }
    }
}
