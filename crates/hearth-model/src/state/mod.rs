//! What a sequence carries from step to step.

mod page;

pub use page::{PageId, PageLayout, PagePool, Sequence};
