//! Images that a comparison finds before their pair is there.

use super::consent::take_place;
use super::*;
use crate::plan::Standing;

#[test]
fn what_a_comparison_found_before_its_pair_was_there_is_owed() {
    let source: &[(&str, &[(&str, &str)])] = &[("app", &[("v1", "1"), ("v2", "2")])];
    let mut bench = Bench::new("");
    bench.consents(None, Standing::Accepted);
    take_place(&mut bench, "a");
    bench.compare(source, true);
    assert_eq!(bench.machine.pairs().count(), 0, "it is another's");
    let late = bench.observed("app", "v2", "2", at(599));
    bench.passes(600);

    let (app, tags): (RepositoryName, _) = ("app".parse().unwrap(), ["v1", "v2"].map(|tag| tag.parse().unwrap()));
    bench.find(Finding::Repositories {
        names: [app.clone()].into(),
        unmatched: BTreeSet::new(),
        invalid: InvalidNames::default(),
        sent_at: bench.now,
    });
    bench.find(Finding::Opened(app.clone()));
    let ((narrowed, left_out), invalid) = (Default::default(), InvalidNames::default());
    let (repository, sent_at) = (app.clone(), bench.now);
    bench.find(Finding::Tags(Listed { repository, tags: tags.into(), narrowed, sent_at, left_out, invalid }));
    bench.find(Finding::Image(bench.observed("app", "v2", "2", bench.now)));
    bench.claims.release("uid-o", |_| false);
    bench.passes(1);
    bench.consents(None, Standing::Accepted);
    bench.step(Event::Looked(Looked::Seen(late)));
    bench.find(Finding::Image(bench.observed("app", "v1", "1", bench.now)));
    bench.find(Finding::Closed(app));
    bench.find(Finding::Done(Coverage::Whole));

    let owed = |bench: &Bench| bench.machine.pairs().map(|pair| pair.ledger.counts().owed).sum::<u64>();
    bench.pushed("v1", "1");
    bench.copied(Ok(()));
    assert!(bench.row("v1").is_some_and(|state| matches!(state, crate::plan::RowState::Complete { .. })));
    assert_eq!(owed(&bench), 1, "the comparison found v2, which is not verified");
    bench.pushed("v2", "2");
    assert_eq!(bench.copying(), [digest("2")]);
    bench.copied(Ok(()));
    assert_eq!(owed(&bench), 0);
}
