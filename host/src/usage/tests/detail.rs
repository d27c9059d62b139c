//! Usage in detail, page by page, against sums that are simply added up.

use super::*;

const ALL: By = By { day: true, key: true, pillar: true, route: true };

fn question(by: By, limit: usize) -> Detail {
    let (from, to) = (Day(20_700), Day(20_900));
    Detail { org: Some(1), from, to, key: None, pillar: None, route: None, by, after: None, limit }
}

/// All pages, one after the other.
async fn pages(store: &dyn UsageStore, mut question: Detail) -> Vec<(Group, Counts)> {
    let mut all = Vec::new();
    loop {
        let page = store.detail(question.clone()).await.unwrap();
        assert!(page.rows.len() <= question.limit && (!page.more || page.rows.len() == question.limit));
        question.after = page.rows.last().map(|(group, _)| group.clone());
        all.extend(page.rows);
        if !page.more {
            return all;
        }
    }
}

fn sum<'a>(counts: impl IntoIterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::default();
    counts.into_iter().for_each(|counts| sum.merge(counts));
    sum
}

/// The same, by adding up whatever fits.
fn expected(records: &[Record], question: &Detail) -> Vec<(Group, Counts)> {
    let mut sums: BTreeMap<Group, Counts> = BTreeMap::new();
    for Record { caller, pillar, route, day, counts } in records {
        let fits = caller.org == question.org
            && (question.from..=question.to).contains(day)
            && question.key.is_none_or(|key| caller.key == Some(key))
            && question.pillar.as_ref().is_none_or(|wanted| **wanted == **pillar)
            && question.route.as_ref().is_none_or(|wanted| **wanted == **route);
        if fits {
            let By { day: by_day, key, pillar: by_pillar, route: by_route } = question.by;
            let group = Group {
                day: by_day.then_some(*day),
                key: key.then_some(caller.key),
                pillar: by_pillar.then(|| pillar.clone()),
                route: by_route.then(|| route.clone()),
            };
            sums.entry(group).or_default().merge(counts);
        }
    }
    sums.into_iter().collect()
}

#[tokio::test]
async fn the_sums_of_each_grouping_are_those_of_the_month() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()) {
        store.add(records()).await.unwrap();
        let total = sum(&[november(&*store).await, december(&*store).await]);
        for bits in 0..16u8 {
            let by = By { day: bits & 1 > 0, key: bits & 2 > 0, pillar: bits & 4 > 0, route: bits & 8 > 0 };
            for limit in [1, 2, 7, 1_000] {
                let rows = pages(&*store, question(by, limit)).await;
                assert_eq!(sum(rows.iter().map(|(_, counts)| counts)), total, "{by:?}, {limit}");
                assert_eq!(rows, expected(&records(), &question(by, limit)), "{by:?}, {limit}");
            }
        }
    }
}

async fn november(store: &dyn UsageStore) -> Counts {
    store.month(Some(1), Month::of(START)).await.unwrap().total
}

async fn december(store: &dyn UsageStore) -> Counts {
    store.month(Some(1), Month::of(START).next()).await.unwrap().total
}

#[tokio::test]
async fn what_is_asked_for_is_all_that_comes() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()) {
        store.add(records()).await.unwrap();
        let first = Month::of(START).next().first_day();
        let cases = [
            Detail { from: first, ..question(ALL, 3) },
            Detail { to: Day(first.0 - 1), ..question(ALL, 3) },
            Detail { key: Some(2), ..question(ALL, 3) },
            Detail { key: Some(2), ..question(By { day: false, ..ALL }, 1) },
            Detail { pillar: Some("connect".into()), route: Some("show".into()), ..question(ALL, 3) },
            Detail { org: None, ..question(ALL, 3) },
            Detail { org: Some(2), ..question(ALL, 3) },
            Detail { key: Some(9), ..question(ALL, 3) },
            Detail { from: Day(3), to: Day(2), ..question(ALL, 3) },
            Detail { from: Day(20_000), to: Day(u32::MAX), ..question(ALL, 3) },
        ];
        let found = cases.map(|case| (expected(&records(), &case), case));
        assert!(found.iter().filter(|(rows, _)| rows.is_empty()).count() == 3);
        for (rows, case) in found {
            assert_eq!(pages(&*store, case.clone()).await, rows, "{case:?}");
        }
    }
}

proptest! {
    /// Rows that are as different as can be, in pages of any length.
    #[test]
    fn pages_are_what_is_added_up_simply(
        rows in vec((0..4u32, prop::option::of(0..3u128), 0..3usize, 0..3usize), 0..60),
        (bits, limit, from, to, key) in (0..16u8, 1..9usize, 0..4u32, 0..4u32, prop::option::of(0..3u128)),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let record = |(number, (day, key, pillar, route)): (usize, (u32, Option<u128>, usize, usize))| Record {
            caller: Caller { org: Some(1), key },
            pillar: ["a", "b", "c"][pillar].into(),
            route: ["x", "y", "z"][route].into(),
            day: Day(day),
            counts: Counts { calls: 1 << (number % 60), ..Counts::default() },
        };
        let records: Vec<Record> = rows.into_iter().enumerate().map(record).collect();
        let by = By { day: bits & 1 > 0, key: bits & 2 > 0, pillar: bits & 4 > 0, route: bits & 8 > 0 };
        let question = Detail { from: Day(from), to: Day(to), key, ..question(by, limit) };
        let store = MemoryUsage::default();
        let asked = async {
            store.add(records.clone()).await.unwrap();
            pages(&store, question.clone()).await
        };
        prop_assert_eq!(runtime.block_on(asked), expected(&records, &question));
    }
}
