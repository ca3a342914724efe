//! hearth-text
