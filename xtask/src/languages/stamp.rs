//! Whether something was made from exactly these inputs: a digest of them, kept in a file beside the result.
//!
//! The stamp is written last and removed first, so a step that was broken off is done again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ring::digest::{Context as Digest, SHA256};

/// Directories that a build leaves behind, or that its tools were put into.
const NOT_INPUTS: [&str; 5] = ["target", "node_modules", ".venv", "__pycache__", "plugins"];

/// A digest of all that a result depends on.
pub struct Stamp {
    file: PathBuf,
    digest: String,
}

impl Stamp {
    /// A stamp in `file`, over words (versions, arguments) and files; of a directory, all files below it.
    ///
    /// # Errors
    /// When an input is not readable.
    pub fn over(file: PathBuf, words: &[&str], inputs: &[PathBuf]) -> Result<Self> {
        let mut digest = Digest::new(&SHA256);
        for word in words {
            add(&mut digest, word.as_bytes());
        }
        for input in inputs {
            for path in files_below(input)? {
                let bytes = fs::read(&path).with_context(|| format!("{} is not readable", path.display()))?;
                let name = path.strip_prefix(input).unwrap_or(&path);
                add(&mut digest, name.as_os_str().as_encoded_bytes());
                add(&mut digest, &bytes);
            }
        }
        let digest = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file, digest })
    }

    /// Whether the result was made from these inputs.
    pub fn holds(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|kept| kept == self.digest)
    }

    /// Before the result is touched.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// After the result is whole.
    pub fn set(&self) -> Result<()> {
        fs::write(&self.file, &self.digest).with_context(|| format!("{} cannot be written", self.file.display()))
    }
}

/// Length first: two inputs never read as one.
fn add(digest: &mut Digest, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

/// The file itself, or all inputs below the directory, in the order of their paths.
fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        if !path.is_dir() {
            files.push(path);
            continue;
        }
        for entry in fs::read_dir(&path).with_context(|| format!("{} is not readable", path.display()))? {
            let entry = entry?;
            let made = entry.path().extension().is_some_and(|extension| extension == "wasm");
            if !made && !NOT_INPUTS.iter().any(|name| entry.file_name() == *name) {
                open.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(root: &Path, words: &[&str]) -> Stamp {
        Stamp::over(root.join("stamp"), words, &[root.join("sources")]).unwrap()
    }

    #[test]
    fn it_holds_until_an_input_changes() {
        let root = tempfile::tempdir().unwrap();
        let sources = root.path().join("sources");
        fs::create_dir_all(sources.join("below")).unwrap();
        fs::create_dir_all(sources.join("node_modules")).unwrap();
        fs::write(sources.join("below/a"), "a").unwrap();
        let first = stamp(root.path(), &["1.0"]);
        assert!(!first.holds());
        first.set().unwrap();
        assert!(stamp(root.path(), &["1.0"]).holds());
        assert!(!stamp(root.path(), &["1.1"]).holds());
        assert!(!stamp(root.path(), &["1", ".0"]).holds());

        fs::write(sources.join("node_modules/b"), "b").unwrap();
        assert!(stamp(root.path(), &["1.0"]).holds());
        fs::write(sources.join("b"), "").unwrap();
        assert!(!stamp(root.path(), &["1.0"]).holds());
        fs::remove_file(sources.join("b")).unwrap();
        fs::rename(sources.join("below/a"), sources.join("below/b")).unwrap();
        assert!(!stamp(root.path(), &["1.0"]).holds());
        fs::write(sources.join("below/a"), "b").unwrap();
        assert!(!stamp(root.path(), &["1.0"]).holds());
    }

    #[test]
    fn a_cleared_stamp_does_not_hold() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("sources"), "a").unwrap();
        let stamp = stamp(root.path(), &[]);
        stamp.clear().unwrap();
        stamp.set().unwrap();
        stamp.clear().unwrap();
        assert!(!stamp.holds());
    }

    #[test]
    fn an_input_that_is_not_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("missing");
        let error = Stamp::over(root.path().join("stamp"), &[], &[missing]).err().unwrap();
        assert!(error.to_string().ends_with("missing is not readable"), "{error}");
    }
}
