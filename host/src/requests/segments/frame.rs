//! Rows as they lie in a segment: each stands alone, and its checksum alone says that it is whole.
//!
//! | bytes | what (most significant byte first) |
//! | --- | --- |
//! | 0..4 | CRC-32 of all that follows |
//! | 4, 5..8 | 0xa7; the length of the row |
//! | | the row |
//!
//! Whoever reads passes over everything else, to the next one that is whole. No text of a client can look like one: the first byte
//! of a length is a control character, and those are told escaped.

/// Bytes before a row.
pub(in super::super) const HEAD: usize = 8;
/// The longest row: far more than texts can be, and its first byte is a control character.
const LONGEST: usize = 1 << 20;
const _: () = assert!((LONGEST >> 16) < 0x20, "no text can hold the first byte of a length");
const MARKER: u8 = 0xa7;

/// Leaves room for what stands before a row.
pub(in super::super) fn begin(into: &mut Vec<u8>) {
    into.extend_from_slice(&[0; HEAD]);
}

/// Closes a row that began at this place; how long it is with its frame, or none where it is too long.
pub(in super::super) fn end(into: &mut [u8], start: usize) -> Option<u32> {
    let framed = into.get_mut(start..)?;
    let length = framed.len().checked_sub(HEAD).filter(|length| *length <= LONGEST)?;
    let length = u32::try_from(length).ok()?;
    framed[4..HEAD].copy_from_slice(&length.to_be_bytes());
    framed[4] = MARKER;
    let sum = crc32fast::hash(&framed[4..]);
    framed[..4].copy_from_slice(&sum.to_be_bytes());
    Some(length + HEAD as u32)
}

/// What stands in the place of a row of this length that was erased: a row that says nothing.
pub(super) fn blank(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEAD + length];
    // As long as one that was there.
    let _ = end(&mut bytes, 0);
    bytes
}

/// The whole rows in these bytes, each with the place at which its frame begins.
pub(super) fn rows(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(at..).filter(|rest| rest.len() >= HEAD)?;
            if let Some(row) = whole(rest) {
                let place = at;
                at += HEAD + row.len();
                return Some((place, row));
            }
            // Where the next one may begin.
            at += 1 + rest[5..].iter().position(|byte| *byte == MARKER)?;
        }
    })
}

fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    if head[4] != MARKER {
        return None;
    }
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    let framed = bytes.get(..HEAD + length).filter(|_| length <= LONGEST)?;
    let sum = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    (crc32fast::hash(&framed[4..]) == sum).then(|| &framed[HEAD..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(row: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 2, 3];
        let start = bytes.len();
        begin(&mut bytes);
        bytes.extend_from_slice(row);
        assert_eq!(end(&mut bytes, start), Some((HEAD + row.len()) as u32));
        bytes.split_off(start)
    }

    proptest! {
        #[test]
        fn whole_rows_are_found_behind_anything(
            given in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), proptest::collection::vec(any::<u8>(), 0..40)), 1..8),
        ) {
            let mut bytes = Vec::new();
            let mut places = Vec::new();
            for (noise, row) in &given {
                bytes.extend_from_slice(noise);
                places.push(bytes.len());
                bytes.extend_from_slice(&framed(row));
            }
            let found: Vec<_> = rows(&bytes).collect();
            for ((_, row), place) in given.iter().zip(places) {
                prop_assert!(found.contains(&(place, row.as_slice())), "{place}");
            }
            prop_assert_eq!(found.len(), given.len());
        }

        #[test]
        fn a_flipped_bit_takes_one_row_and_no_other(at in 0usize..1000, bit in 0u8..8) {
            let given: Vec<Vec<u8>> = (0..20u8).map(|row| vec![row; 30]).collect();
            let mut bytes: Vec<u8> = given.iter().flat_map(|row| framed(row)).collect();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let found: Vec<_> = rows(&bytes).map(|(_, row)| row[0]).collect();
            let lost = u8::try_from(at / (HEAD + 30)).unwrap();
            prop_assert_eq!(found, (0..20u8).filter(|row| *row != lost).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(prop_oneof![Just(MARKER), Just(0), any::<u8>()], 0..300)) {
            rows(&bytes).count();
        }
    }

    #[test]
    fn what_was_erased_is_a_row_that_says_nothing_and_what_is_too_long_is_none() {
        let blank = blank(50);
        assert_eq!(rows(&blank).collect::<Vec<_>>(), [(0, &[0; 50][..])]);
        assert_eq!(end(&mut vec![0; HEAD + LONGEST + 1], 0), None);
    }
}
