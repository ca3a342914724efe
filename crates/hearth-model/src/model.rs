//! A loaded model: the mapped file, its settings and its plan.

use std::sync::Arc;

use hearth_gguf::Gguf;
use hearth_kernels::Matrix;

use crate::{
    error::ModelError,
    hparams::{Hparams, Keys, Limits},
    plan::{MatrixId, Plan, PlanBuilder},
    registry,
};

/// Choices made when a model is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelOptions {
    /// Positions a sequence may have; the trained length when absent. It decides which of its two
    /// tables a longrope model uses, so it is a property of the loaded model.
    pub n_ctx: Option<usize>,
}

/// A model ready to run. Cheap to hold: the weights are the file's own bytes.
#[derive(Debug)]
pub struct Model {
    gguf: Arc<Gguf>,
    hparams: Hparams,
    plan: Plan,
    n_ctx: usize,
}

impl Model {
    /// Reads the settings, finds the family and binds every tensor.
    ///
    /// # Errors
    ///
    /// The family, a tensor type or a setting is not supported; a key or tensor is missing, of the
    /// wrong shape, or unused.
    pub fn load(gguf: Arc<Gguf>, options: ModelOptions) -> Result<Self, ModelError> {
        let keys = Keys::new(gguf.metadata())?;
        let family = registry::find(keys.architecture())?;
        let hparams = Hparams::read(&keys, family)?;
        let n_ctx = options.n_ctx.unwrap_or(hparams.n_ctx_train);
        let limit = Limits::DEFAULT.n_ctx;
        if !(1..=limit).contains(&n_ctx) {
            return Err(ModelError::Context { n_ctx, limit });
        }
        let mut builder = PlanBuilder::new(&gguf, &hparams, n_ctx);
        (family.plan)(&mut builder)?;
        let plan = builder.finish(family.name)?;
        Ok(Model {
            gguf,
            hparams,
            plan,
            n_ctx,
        })
    }

    /// The file.
    pub fn gguf(&self) -> &Arc<Gguf> {
        &self.gguf
    }

    /// The settings.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// The operations; its `Display` lists them.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Tokens in the vocabulary, so the length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.hparams.n_vocab
    }

    /// Positions a sequence may have.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// A bound matrix as the kernels take it.
    pub(crate) fn matrix(&self, id: MatrixId) -> Matrix<'_> {
        let bound = &self.plan.matrices[id.index()];
        Matrix::new(bound.ty, bound.rows, bound.cols, self.matrix_bytes(id))
            .expect("shape and type were checked when the tensor was bound")
    }

    /// Its bytes in the file.
    pub(crate) fn matrix_bytes(&self, id: MatrixId) -> &[u8] {
        self.gguf
            .data(&self.gguf.tensors()[self.plan.matrices[id.index()].tensor])
    }
}
