//! What the README of an example tells its reader to type.

use crate::page;

const TITLE: &str = "## Build it";
/// From here on it is about policies of the reader's own.
const OWN: &str = "For a policy of your own";

/// The shell commands under "Build it", in their order.
pub fn steps(readme: &str) -> Option<String> {
    let (_, section) = readme.split_once(TITLE)?;
    let section = section.split("\n## ").next()?;
    let section = section.split(OWN).next()?;
    let fences = page::fences(section).into_iter().filter(|fence| fence.info == "sh");
    let script: String = fences.map(|fence| fence.text).collect();
    (!script.trim().is_empty()).then_some(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_the_shell_blocks_of_one_section() {
        let readme = "# a\n```sh\nnot this\n```\n## Build it\nSay:\n```sh\none\ntwo\n```\nThen:\n```sh\nthree\n```\n\
                      For a policy of your own:\n```sh\nnor this\n```\n## Use it\n```sh\nnor that\n```\n";
        assert_eq!(steps(readme).as_deref(), Some("one\ntwo\nthree\n"));
        assert_eq!(steps("# a\n## Build it\nNothing.\n## Use it\n```sh\nx\n```\n"), None);
        assert_eq!(steps(""), None);
    }
}
