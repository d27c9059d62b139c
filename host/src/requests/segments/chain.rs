//! Chains of segments: which rows lie together. One for callers without a key; for each other kind some, among which orgs are dealt.
//!
//! Which chain an org has follows from its id alone, and is in the names of files: it never changes.

use super::super::log::Kind;

/// How many chains there are.
pub(super) const CHAINS: usize = 97;
/// How each kind is named, and among how many chains its orgs are dealt, in the order of [`Kind::ALL`].
const KINDS: [(&str, u8); Kind::ALL.len()] = [("nobody", 1), ("live", 64), ("sandbox", 16), ("refused", 16)];

/// One chain, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct Chain(u8);

/// A number that stands for an id, and has nothing of its order. It is in files, and never changes.
pub(in super::super) fn spread(id: u128) -> u32 {
    let folded = (id >> 64) as u64 ^ id as u64;
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

impl Chain {
    /// That of an org, by what its id is spread to.
    pub(in super::super) fn of(kind: Kind, org: u32) -> Self {
        let (_, lanes) = KINDS[kind as usize];
        // The first bits: the last ones tell orgs apart within a segment.
        let lane = (u64::from(org) * u64::from(lanes)) >> 32;
        Self(Self::first(kind) + lane as u8)
    }

    fn first(kind: Kind) -> u8 {
        KINDS[..kind as usize].iter().map(|(_, lanes)| lanes).sum()
    }

    /// All of one kind.
    pub(super) fn all(kind: Kind) -> impl Iterator<Item = Self> {
        let first = Self::first(kind);
        (first..first + KINDS[kind as usize].1).map(Self)
    }

    /// Of which kind it is.
    pub(super) fn kind(self) -> Kind {
        let is_in = |kind: &&Kind| self.0 < Self::first(**kind) + KINDS[**kind as usize].1;
        *Kind::ALL.iter().find(is_in).unwrap_or(&Kind::Refused)
    }

    /// Its place among all.
    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    /// How files of it are named.
    pub(super) fn name(self) -> String {
        let kind = self.kind();
        format!("{}-{:02}", KINDS[kind as usize].0, self.0 - Self::first(kind))
    }

    /// The one with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (kind, lane) = name.rsplit_once('-')?;
        let kind = Kind::ALL.into_iter().find(|known| KINDS[*known as usize].0 == kind)?;
        let chain = Self(Self::first(kind).checked_add(lane.parse().ok()?)?);
        (chain.index() < CHAINS && chain.name() == name).then_some(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chain_has_a_name_and_each_org_one_chain_of_its_kind() {
        let all: Vec<Chain> = Kind::ALL.into_iter().flat_map(Chain::all).collect();
        assert_eq!(all.len(), CHAINS);
        for (index, chain) in all.iter().enumerate() {
            assert_eq!((chain.index(), Chain::named(&chain.name())), (index, Some(*chain)));
        }
        assert_eq!((Chain::named("live-64"), Chain::named("live-7"), Chain::named("")), (None, None, None));
        let mut used = [0; CHAINS];
        for org in 0..20_000_u128 {
            // As ids are: a time, and chance.
            let id = ((1_795_564_800_000 + org) << 80) | org.wrapping_mul(0x9e37_79b9_97f4_a7c1_5f39);
            for kind in [Kind::Live, Kind::Sandbox, Kind::Refused] {
                let chain = Chain::of(kind, spread(id));
                assert_eq!(chain.kind(), kind);
                used[chain.index()] += 1;
            }
        }
        assert!(used[1..65].iter().all(|orgs| (150..500).contains(orgs)), "{used:?}");
        assert_eq!(Chain::of(Kind::Nobody, u32::MAX).name(), "nobody-00");
        // Names of files hang on it.
        assert_eq!((spread(7), Chain::of(Kind::Live, spread(7)).name()), (1_401_181_202, "live-20".to_owned()));
    }
}
