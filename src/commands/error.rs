//! The error that ends a command: an exit code and a sentence. The reasons are found elsewhere.

use crate::report::Code;

/// Why a command cannot do its work. [`super::frame::concluded`] writes it as the last line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CommandError {
    /// The exit code.
    pub code: Code,
    /// Why, and what helps, in one line.
    pub text: String,
}

impl CommandError {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}
