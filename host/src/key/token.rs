//! How secrets are written: `sk_live_` or `sk_sandbox_`, 43 base 62 characters of chance, 6 of checksum.
//!
//! Purely text: whether a well-formed secret is somebody's is not known here.

use std::fmt;
use std::str;

use zeroize::{Zeroize, Zeroizing};

use super::Mode;
use crate::id::{NoRandomness, random};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is just above 2^256.
const CHANCE_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;
const BODY_LENGTH: usize = CHANCE_LENGTH + CHECKSUM_LENGTH;
/// Imported keys of the older shape: with their prefix.
const SHORTEST: usize = 32;
/// Nobody's secret is longer; a digest over more is work for nothing.
const LONGEST: usize = 256;

/// A secret in the clear, wiped from memory when dropped. `Debug` shows nothing of it.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A new secret for a key of this mode.
    pub fn mint(mode: Mode) -> Result<Self, NoRandomness> {
        mint_body(mode.prefix()).map(Self)
    }

    /// A secret that was made elsewhere; none where it is not shaped like one.
    pub fn imported(text: &str) -> Option<Self> {
        is_shaped(text.as_bytes()).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The mode that its prefix says.
    pub fn mode(&self) -> Mode {
        if self.0.starts_with(Mode::Sandbox.prefix()) { Mode::Sandbox } else { Mode::Live }
    }

    /// The text, to be handed to its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The last four characters, for people to recognise it by.
    pub fn last_four(&self) -> [u8; 4] {
        *self.0.as_bytes().last_chunk().expect("a secret has 32 characters at least")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether these bytes can be a secret at all: of our own making, or imported in the older shape (a prefix, then
/// `[A-Za-z0-9_]`, 32 to 256 characters in all). A body of 49 characters is of our own making, so its checksum must hold.
pub fn is_shaped(token: &[u8]) -> bool {
    let body = [Mode::Live, Mode::Sandbox].into_iter().find_map(|mode| token.strip_prefix(mode.prefix().as_bytes()));
    let Some(body) = body else { return false };
    if body.len() == BODY_LENGTH {
        return is_sealed_body(token);
    }
    (SHORTEST..=LONGEST).contains(&token.len()) && body.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Whether the token ends in 49 base 62 characters of which the last six are the checksum over all before.
fn is_sealed_body(token: &[u8]) -> bool {
    let Some((sealed, checksum)) = token.split_last_chunk::<CHECKSUM_LENGTH>() else { return false };
    let Some(chance) = sealed.last_chunk::<CHANCE_LENGTH>() else { return false };
    chance.iter().all(u8::is_ascii_alphanumeric) && self::checksum(sealed) == *checksum
}

/// A new token: the prefix, 256 bits from the operating system, the checksum.
pub(crate) fn mint_body(prefix: &str) -> Result<Zeroizing<String>, NoRandomness> {
    let mut chance = random()?;
    let token = write(prefix, &chance);
    chance.zeroize();
    Ok(token)
}

fn write(prefix: &str, chance: &[u8; 32]) -> Zeroizing<String> {
    let mut token = Zeroizing::new(Vec::with_capacity(prefix.len() + BODY_LENGTH));
    token.extend_from_slice(prefix.as_bytes());
    token.extend_from_slice(&*base62(chance));
    let checksum = checksum(&token);
    token.extend_from_slice(&checksum);
    let text = str::from_utf8(&token).expect("a prefix and base 62 digits are text");
    Zeroizing::new(text.to_owned())
}

/// The number as 43 digits, most significant first, by long division.
fn base62(number: &[u8; 32]) -> Zeroizing<[u8; CHANCE_LENGTH]> {
    let mut number = Zeroizing::new(*number);
    let mut digits = Zeroizing::new([0; CHANCE_LENGTH]);
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in number.iter_mut() {
            let part = rest << 8 | u32::from(*byte);
            *byte = (part / 62) as u8;
            rest = part % 62;
        }
        *digit = DIGITS[rest as usize];
    }
    digits
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(bytes);
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed by another program: zlib's CRC32 and whole-number arithmetic.
    const VECTORS: [(&str, u8, &str); 4] = [
        ("sk_live_", 0x00, "sk_live_00000000000000000000000000000000000000000001Vxh1Z"),
        ("sk_live_", 0xff, "sk_live_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp14Z47sr"),
        ("sk_sandbox_", 0x5a, "sk_sandbox_LQNUGZHT5u543eF8cvF8tKdPlcVkNSYQAq1KIqZ6f742igxGS"),
        ("sk_sandbox_", 0x01, "sk_sandbox_0El6XFXwsUFD8J2vGxsaboW7rZYnQRBP5d9erwRwd292crW0A"),
    ];

    #[test]
    fn secrets_are_written_as_another_program_writes_them() {
        for (prefix, byte, token) in VECTORS {
            assert_eq!(*write(prefix, &[byte; 32]), token);
        }
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
    }

    #[test]
    fn a_minted_secret_has_the_fixed_shape_and_is_never_the_same() {
        for (mode, length) in [(Mode::Live, 57), (Mode::Sandbox, 60)] {
            let secret = Secret::mint(mode).unwrap();
            assert_eq!(secret.reveal().len(), length);
            assert!(secret.reveal().starts_with(mode.prefix()));
            assert!(is_shaped(secret.reveal().as_bytes()));
            assert!(secret.reveal().as_bytes().ends_with(&secret.last_four()));
            assert_ne!(secret.reveal(), Secret::mint(mode).unwrap().reveal());
        }
    }

    #[test]
    fn any_typo_in_a_secret_is_noticed() {
        let secret = Secret::mint(Mode::Live).unwrap();
        for at in 0..secret.reveal().len() {
            let mut typo = secret.reveal().as_bytes().to_vec();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_shaped(&typo), "character {at}");
        }
    }

    #[test]
    fn imported_secrets_of_the_older_shape_pass_and_nothing_else_does() {
        let of = |prefix: &str, length: usize| format!("{prefix}{}", "a_9Z".repeat(100))[..length].to_owned();
        for (token, shaped) in [
            (of("sk_live_", 32), true),
            (of("sk_sandbox_", 32), true),
            (of("sk_live_", 58), true),
            (of("sk_live_", 256), true),
            (of("sk_live_", 31), false),
            (of("sk_live_", 257), false),
            (of("sk_live_", 57), false),
            (of("sk_sandbox_", 60), false),
            (of("sk_test_", 40), false),
            (of("SK_LIVE_", 40), false),
            (of("sk_live_", 40).replace('Z', "-"), false),
            (of("sk_live_", 40).replace('Z', "é"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_shaped(token.as_bytes()), shaped, "{token}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert_eq!(format!("{:?}", Secret::mint(Mode::Live).unwrap()), "Secret(…)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_harm(bytes: Vec<u8>) {
            let mut token = b"sk_live_".to_vec();
            token.extend_from_slice(&bytes);
            let plain = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            prop_assert!(!is_shaped(&token) || plain && token.len() >= 32);
            prop_assert!(!is_shaped(&bytes) || bytes.starts_with(b"sk_"));
        }

        #[test]
        fn every_number_is_written_in_the_fixed_shape(chance: [u8; 32]) {
            let token = write("sk_sandbox_", &chance);
            prop_assert_eq!(token.len(), 60);
            prop_assert!(is_shaped(token.as_bytes()));
        }
    }
}
