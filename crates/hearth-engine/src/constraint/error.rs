//! What can be wrong with a grammar, and with an answer that follows one.

/// Why a constraint cannot be had, or an answer under it not be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// A keyword of a schema that we cannot enforce.
    #[error("{keyword:?} at {path} cannot be enforced: {reason}")]
    Keyword {
        /// The keyword.
        keyword: String,
        /// The subschema it stands in, as a JSON pointer that begins with `#`.
        path: String,
        /// What of it we cannot do.
        reason: String,
    },
    /// A schema that is none.
    #[error("{keyword:?} at {path} {problem}")]
    Malformed {
        /// The keyword.
        keyword: String,
        /// The subschema it stands in.
        path: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A schema that nothing satisfies.
    #[error("{keyword:?} at {path} leaves no value: {reason}")]
    Unsatisfiable {
        /// The keyword that leaves nothing.
        keyword: String,
        /// The subschema it stands in.
        path: String,
        /// Why.
        reason: String,
    },
    /// More of something than we take.
    #[error("the {what} is {n}, the limit is {limit}")]
    Limit {
        /// What.
        what: &'static str,
        /// How much there is.
        n: usize,
        /// The most we take.
        limit: usize,
    },
    /// A text in some grammar's language that cannot be read or never ends.
    #[error("bad {language}: {problem}")]
    Grammar {
        /// `regex`, `Lark grammar`, `GBNF grammar`, ...
        language: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The arguments of a tool have a schema that cannot be had.
    #[error("tool {name:?}: {error}")]
    Tool {
        /// The tool.
        name: String,
        /// What is wrong.
        error: Box<ConstraintError>,
    },
    /// The model's vocabulary cannot write what was asked for.
    #[error("this model's vocabulary cannot be constrained: {problem}")]
    Vocabulary {
        /// What is missing.
        problem: String,
    },
    /// The grammar became too complex in the middle of an answer, or a token broke it.
    #[error("the answer cannot follow its grammar any further: {problem}")]
    Broken {
        /// What happened.
        problem: String,
    },
}

impl ConstraintError {
    pub(super) fn keyword(keyword: &str, path: &str, reason: impl Into<String>) -> Self {
        ConstraintError::Keyword {
            keyword: keyword.to_owned(),
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn malformed(keyword: &str, path: &str, problem: impl Into<String>) -> Self {
        ConstraintError::Malformed {
            keyword: keyword.to_owned(),
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(super) fn unsatisfiable(keyword: &str, path: &str, reason: impl Into<String>) -> Self {
        ConstraintError::Unsatisfiable {
            keyword: keyword.to_owned(),
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn in_tool(self, name: &str) -> Self {
        match self {
            error @ ConstraintError::Tool { .. } => error,
            error => ConstraintError::Tool {
                name: name.to_owned(),
                error: Box::new(error),
            },
        }
    }

    pub(super) fn grammar(language: &'static str, problem: impl std::fmt::Display) -> Self {
        let problem = problem.to_string();
        // The parser appends its own state for debugging; the first lines say what is wrong.
        let problem = problem.split("\n<").next().unwrap_or_default();
        ConstraintError::Grammar {
            language,
            problem: problem.trim_end().to_owned(),
        }
    }

    pub(super) fn broken(problem: impl std::fmt::Display) -> Self {
        let problem = problem.to_string();
        let problem = problem.split("\n<").next().unwrap_or_default();
        ConstraintError::Broken {
            problem: problem.trim_end().to_owned(),
        }
    }
}
