//! What the scripted guests share, and [`descriptor::patch`], by which tests make one guest for each rule.
//!
//! The guests themselves are in `examples/`, one file each; README.md says what each does.

pub mod chameleon;
pub mod descriptor;
pub mod echo;
pub mod script;
