//! Why a gateway did not start: one sentence for each thing that is wrong, all of them at once.

use crate::config::{Problem, Problems};
use std::fmt;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file does not make sense.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The file makes sense, and does not fit the plugins that are there.
    #[error("{0}")]
    Unfit(Unfit),
    /// Something that it needs cannot be had.
    #[error("{0}")]
    Cannot(String),
}

impl StartError {
    /// Each thing that is wrong, as a sentence.
    pub(super) fn reasons(&self) -> Vec<String> {
        match self {
            Self::Config(problems) => problems.list().iter().map(ToString::to_string).collect(),
            Self::Unfit(unfit) => unfit.problems.iter().map(ToString::to_string).collect(),
            Self::Cannot(sentence) => vec![sentence.clone()],
        }
    }

    /// The problems that are told of it, and how many there are.
    pub(super) fn problems(&self) -> (Vec<Problem>, usize) {
        match self {
            Self::Config(problems) => (problems.list().to_vec(), problems.count()),
            Self::Unfit(unfit) => (unfit.problems.clone(), unfit.problems.len()),
            Self::Cannot(sentence) => (vec![Problem::at("", sentence.as_str())], 1),
        }
    }
}

/// Everything in a configuration that does not fit the plugins that are there.
#[derive(Debug)]
pub struct Unfit {
    pub(super) file: std::path::PathBuf,
    /// The problems, each with its key path.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            let line = if position == 0 { "" } else { "\n" };
            write!(f, "{line}{}: {problem}", self.file.display())?;
        }
        Ok(())
    }
}
