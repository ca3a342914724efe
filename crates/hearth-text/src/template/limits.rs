//! What a template may use.

/// Budgets of one rendering. All work and all memory is paid from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Longest template text. The largest published ones have about 17 kB.
    pub source_bytes: usize,
    /// Fuel every rendering gets: one unit is one instruction or 64 bytes of text made.
    pub base_fuel: u64,
    /// Fuel added per byte of context, so that long conversations render and short ones cannot run long.
    pub fuel_per_context_byte: u64,
    /// Upper bound of the two together; it also bounds the stack a rendering may need.
    pub max_fuel: u64,
    /// Longest text a rendering may produce beyond eight times its context.
    pub output_bytes: usize,
    /// Depth of macro calls and of nested values in the context.
    pub depth: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        // 80,000 instructions are sixteen times what the hungriest published template needs for a conversation of
        // a few turns, and keep the text made in a small rendering under 6 MiB.
        Self {
            source_bytes: 1 << 20,
            base_fuel: 80_000,
            fuel_per_context_byte: 8,
            max_fuel: 3_000_000,
            output_bytes: 1 << 20,
            depth: 120,
        }
    }
}

impl TemplateLimits {
    /// Fuel for a context of this size.
    pub(crate) fn fuel(&self, context_bytes: usize) -> u64 {
        let bytes = u64::try_from(context_bytes).unwrap_or(u64::MAX);
        self.base_fuel
            .saturating_add(bytes.saturating_mul(self.fuel_per_context_byte))
            .min(self.max_fuel)
    }

    /// Longest output for a context of this size.
    pub(crate) fn output(&self, context_bytes: usize) -> usize {
        self.output_bytes
            .saturating_add(context_bytes.saturating_mul(8))
    }
}
